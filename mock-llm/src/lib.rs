//! A scripted, deterministic OpenAI-compatible server: real HTTP, real Server-Sent Events, no model.
//!
//! What it answers is a function of the seed and the request's bytes, whatever else is asked at the same time.
//! How it fails is told by name ([`fault::TABLE`]), by a script ([`Scenario`]) or by a header of the request:
//!
//! | header | |
//! |---|---|
//! | `x-storyfleet-agent` | who asks: decides the form of the answer, and which rules match |
//! | `x-storyfleet-event` | for what: its calls count as tries of one thing; without it equal bodies do |
//! | `x-mock-fault` | a fault for this call, such as `stall(12)`; `none`: no fault, whatever the script says |
//! | `x-mock-ttft`, `x-mock-itl` | the delay of the first token, and between tokens |
//! | `x-mock-seed` | the seed |

mod admin;
mod answer;
mod app;
mod calls;
mod chat;
mod dice;
mod ending;
pub mod fault;
mod frames;
mod incoming;
pub mod latency;
mod limits;
mod moderation;
mod playback;
mod prose;
mod refusal;
pub mod scenario;
mod schema;
mod server;
mod token;
mod unary;
mod wire;

pub use fault::Fault;
pub use latency::{Delay, Latency};
pub use limits::{Limits, Minute};
pub use scenario::Scenario;
pub use server::serve;

/// How to serve. The default answers at once, as each agent is asked to, to whoever asks.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub seed: u64,
    pub latency: Latency,
    pub scenario: Scenario,
    /// The key that calls must show; none: no key is looked at.
    pub api_key: Option<secrecy::SecretString>,
}
