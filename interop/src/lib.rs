//! The pages for services: their examples are tested here, with the crates that they are about.

#[cfg(doctest)]
#[doc = include_str!("../../docs/async.md")]
struct Async;

#[cfg(doctest)]
#[doc = include_str!("../../docs/carriers.md")]
struct Carriers;

#[cfg(doctest)]
#[doc = include_str!("../../docs/migrating.md")]
struct Migrating;
