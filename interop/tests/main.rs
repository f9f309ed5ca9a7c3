//! cleanslate with the crates that its features are for, as a service uses them.

mod opentelemetry;
mod tower;
