//! cleanslate with the crates that its features are for, as a service uses them.

#[expect(dead_code, reason = "shared with the crate's own tests")]
#[path = "../../tests/support/alone.rs"]
mod alone;
mod opentelemetry;
mod parts;
mod tower;
mod tower_faults;
