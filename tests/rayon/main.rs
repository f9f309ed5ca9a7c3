//! Isolated tasks on rayon.

#[path = "../support/mod.rs"]
mod support;

mod chains;
mod coverage;
mod failures;
mod frames;
mod from_rayon;
mod hostile;
mod panics;
mod parity;
mod probe;
mod reference;
mod refused;
mod stolen;
mod tasks;
mod waits;
