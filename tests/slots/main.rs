//! Slots: their methods, declarations, drops and threads.

#[path = "../support/mod.rs"]
mod support;

mod declared;
mod drops;
mod faults;
mod methods;
mod owners;
mod recurring;
mod threads;
mod thrown;
