//! The harness of the system tests: a real Redis server, the mock model and workers, all real processes, behind verbs
//! that read as a story of what happens. It waits for states, each within a deadline, and never for time to pass.

mod action;
mod address;
pub mod attacks;
mod authority;
pub mod chaos;
pub mod cuts;
pub mod edge;
pub mod failover;
pub mod fallback;
mod fleet;
pub mod limits;
mod model;
pub mod ordeal;
mod output;
mod process;
mod pty;
mod redis;
mod relay;
pub mod rolling;
pub mod sample;
mod servers;
mod stack;
mod wait;
mod watcher;

pub use action::action;
pub use address::free_address;
pub use authority::{Authority, Vouched};
pub use model::Model;
pub use output::Output;
pub use process::{Build, Process, program, worker};
pub use pty::{Modes, Terminal};
pub use redis::{Redis, cli_program};
pub use relay::Relay;
pub use rustix::process::Signal;
pub use servers::{Sentinel, Servers};
pub use stack::{Options, Stack};
pub use wait::{eventually, lasting};
pub use watcher::Watcher;
