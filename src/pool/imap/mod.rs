//! Maps that pull their input only as far as their output is wanted.

mod input;
mod ordered;
mod unordered;

pub(crate) use input::LazyInput;
pub use ordered::Imap;
pub use unordered::ImapUnordered;
