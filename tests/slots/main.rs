//! Slots: their methods, declarations, drops and threads.

#[path = "../support/mod.rs"]
mod support;

mod declared;
mod drops;
mod faults;
mod methods;
mod owners;
mod threads;
mod thrown;
