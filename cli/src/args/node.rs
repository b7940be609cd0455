//! Of `bench --gateway`: its parts, and its processes, each one of its own so that what it uses is its own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

/// In the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Idle,
    FanOut,
    Handshakes,
    Resume,
    Herd,
    Outage,
    First,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// A gateway
    Gateway {
        #[arg(long)]
        listen: SocketAddr,
        /// As the gateway's own options
        #[arg(long)]
        jwt_secrets: PathBuf,
        #[arg(long)]
        jwks_file: PathBuf,
    },
    /// The same transport without stories, tokens and Redis
    Bare {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A worker
    Narrator {
        /// The base URL of the model
        #[arg(long)]
        llm: String,
    },
}
