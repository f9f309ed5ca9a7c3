//! The pool: what it runs, how it waits, and how it ends.

#[path = "../support/mod.rs"]
mod support;

mod any;
mod broadcast;
mod builder;
mod caller;
mod cancel_on_drop;
mod depth;
mod event;
mod fair;
mod fork;
mod given;
mod global;
mod handles;
mod idle;
mod imap;
mod imap_buffer;
mod join;
mod leaky;
mod map;
mod map_faults;
mod map_pulls;
mod nested;
mod permit;
mod places;
mod reduce;
mod refused;
mod scope;
mod shutdown;
mod shutdown_now;
mod stops;
mod submit;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod successor;
mod too_deep;
mod turns;
mod unheard;
mod user_code;
mod worker_life;
