//! The pool: what it runs, how it waits, and how it ends.

#[path = "../support/mod.rs"]
mod support;

mod builder;
mod caller;
mod event;
mod fair;
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
