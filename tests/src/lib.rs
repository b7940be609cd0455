//! The harness of the system tests: a real Redis server, the mock model over HTTP and real worker processes, behind verbs
//! that read as a story of what happens. It waits for states, each within a deadline, and never for time to pass.

mod process;
mod redis;
mod stack;

pub use process::{Process, program};
pub use stack::{Options, Stack, Watcher};
