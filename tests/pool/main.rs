//! The pool: what it runs, how it waits, and how it ends.

#[path = "../support/mod.rs"]
mod support;

mod broadcast;
mod builder;
mod caller;
mod depth;
mod event;
mod fair;
mod fork;
mod handles;
mod imap;
mod leaky;
mod map;
mod map_faults;
mod map_pulls;
mod nested;
mod permit;
mod scope;
mod shutdown;
mod submit;
mod user_code;
mod worker_life;
