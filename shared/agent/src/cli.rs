//! The command line that every agent has.

use std::path::PathBuf;

/// What an agent is built from.
#[derive(Debug, Clone)]
pub struct Setup {
    pub llm: llm::Client,
    pub model: String,
    /// Replaces the embedded prompts: see [`Prompts::load`](crate::Prompts::load).
    pub prompts: Option<PathBuf>,
}

/// For agents without options of their own.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct NoOptions {}
