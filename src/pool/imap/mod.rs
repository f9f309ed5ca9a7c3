//! Maps that pull their input only as far as their output is wanted.

mod input;
mod ordered;
mod unordered;

pub use ordered::Imap;
pub use unordered::ImapUnordered;
