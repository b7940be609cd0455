//! The mock as its clients see it: over real HTTP, on a free port.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod chat;
mod command;
mod faults;
mod harness;
mod latency;
mod scripts;
mod server;
