//! The gateway process.

use std::io::Write as _;
use std::process::ExitCode;

use agent::{Shutdown, exit};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use gateway::{Gateway, Options};
use tokio_util::task::TaskTracker;

/// Lets people read and write stories over WebSocket, SSE and HTTP.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; a second signal ends at once
    #[command(after_help = "\
Examples:
  gateway run --jwt-secrets secrets
  gateway run --listen 0.0.0.0:8080 --jwks-url https://login.example/jwks.json --origin https://app.example")]
    Run(Box<Options>),
    /// Print the OpenAPI document
    Openapi,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(Cli {
            command: Command::Run(options),
        }) => run(&options).map_or_else(exit::failed, |()| ExitCode::SUCCESS),
        Ok(Cli {
            command: Command::Openapi,
        }) => print().map_or_else(exit::failed, |()| ExitCode::SUCCESS),
        Err(error) => exit::usage(&error),
    }
}

fn print() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", gateway::openapi()).context("standard output cannot be written")
}

fn run(options: &Options) -> anyhow::Result<()> {
    options.logs().map_err(exit::configuration)?;
    let settings = options.settings().map_err(exit::configuration)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    runtime.block_on(async {
        let signals = TaskTracker::new();
        let shutdown = Shutdown::on_signals(&signals)?;
        let gateway = Gateway::bind(settings, &shutdown).await?;
        tracing::info!(address = %gateway.address()?, "listening");
        gateway.run(&shutdown).await;
        shutdown.now.cancel();
        signals.close();
        signals.wait().await;
        Ok(())
    })
}
