//! Isolated tasks on rayon.

mod chains;
mod coverage;
mod hostile;
mod panics;
mod probe;
mod reference;
mod stolen;
mod tasks;
