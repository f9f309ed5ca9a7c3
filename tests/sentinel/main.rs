//! The sentinel: what it finds and names, and what a pool does about it.

#![cfg(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]

#[path = "../support/mod.rs"]
mod support;

mod pool;
mod stripped;
