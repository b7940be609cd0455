//! What every agent process shares: the [`Agent`] trait, the worker loop, prompts, the command line, logs, metrics, health.
//!
//! An agent is a crate with a type that implements [`Agent`] and a `main` that names it:
//!
//! ```no_run
//! use agent::{Agent, Effects, HandleError, Turn};
//!
//! struct Silent;
//!
//! impl Agent for Silent {
//!     fn agent(&self) -> story::Agent {
//!         story::Agent::Narrator
//!     }
//!     fn takes(&self) -> &'static [&'static str] {
//!         &["action"]
//!     }
//!     async fn handle(&self, _: &Turn) -> Result<Effects, HandleError> {
//!         Ok(Effects::default())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     agent::main(story::Agent::Narrator, |_: &agent::NoOptions| Silent)
//! }
//! ```
//!
//! The loop ([`run`]) takes events from Redis under a lease, gives each to [`Agent::handle`] with its context, and
//! commits the effects if the lease is still held. Other programs may run several agents in one process.

/// Here, so that every agent has it, and all that links one: `storyfleet up`, the bench's bare loop. A turn makes and
/// drops a thousand small texts. Without huge pages (`no_thp`), which would double the memory of an idle worker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod agent;
pub mod archive;
mod breaker;
mod cli;
mod desk;
mod draft;
mod drain;
pub mod exit;
pub mod fence;
mod file;
pub mod flags;
mod health;
mod key;
mod lease;
pub mod manifest;
mod metrics;
pub mod models;
pub mod prompts;
pub mod recording;
mod reload;
mod replay;
mod retry;
mod shutdown;
pub mod spans;
mod take;
pub mod telemetry;
mod turn;
mod upkeep;
mod window;
mod worker;

pub use agent::{Agent, Effects, Emitted, HandleError, Turn};
pub use cli::{NoOptions, Setup, main, no_list};
pub use draft::DraftSender;
pub use manifest::Manifest;
pub use metrics::{Metrics, register, release};
pub use models::{Member, Models};
pub use prompts::{Prompt, Prompts};
pub use recording::Recording;
pub use shutdown::Shutdown;
pub use window::{Bounds, Window};
pub use worker::{MAX_DELIVERIES, Settings, run};
