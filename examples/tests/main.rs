//! The examples, each as its own code, and as a program if it was built.

#![expect(clippy::duplicate_mod, reason = "each example is a program with its own command line")]

mod cleanup_pattern;
mod command_line;
mod context_copies;
mod database_switch;
mod executor_leak;
mod initialised_local;
mod logging_context;
mod own_copy;
mod patience;
mod program;
mod request_server;
mod rude_clients;
mod spinner;
mod temporary;
mod threads;
mod tls_inventory;
mod transaction_scope;
mod word_index;
mod worker_database;
