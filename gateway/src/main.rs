//! The gateway process.

use std::io::Write as _;
use std::process::ExitCode;

use agent::{Shutdown, exit, flags};
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
    /// Say whether the configuration, the keys for tokens and Redis are usable, or whether a gateway is ready
    #[command(
        after_help = "Exit codes: 0 usable, or ready; 1 not; 2 wrong usage or configuration."
    )]
    Check {
        #[command(flatten)]
        options: Box<Options>,
        /// Print JSON
        #[arg(long, conflicts_with = "health")]
        json: bool,
        /// Ask the gateway that runs on this machine, at --internal-listen, whether it is ready; nothing else is looked at
        #[arg(long)]
        health: bool,
    },
    /// Print the OpenAPI document
    Openapi,
}

fn main() -> ExitCode {
    match flags::parse() {
        Ok(Cli {
            command: Command::Run(options),
        }) => run(&options).map_or_else(exit::failed, |()| ExitCode::SUCCESS),
        Ok(Cli {
            command: Command::Openapi,
        }) => print(gateway::openapi()).map_or_else(exit::failed, |()| ExitCode::SUCCESS),
        Ok(Cli {
            command:
                Command::Check {
                    options,
                    health: true,
                    ..
                },
        }) => health(&options).map_or_else(exit::failed, |()| ExitCode::SUCCESS),
        Ok(Cli {
            command: Command::Check { options, json, .. },
        }) => check(*options, json).unwrap_or_else(exit::failed),
        Err(error) => exit::usage(&error),
    }
}

fn check(options: Options, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let report = runtime.block_on(gateway::check(options));
    // A file that hangs is said to, and not waited for.
    runtime.shutdown_background();
    print(&report.text(json)?)?;
    Ok(report.code())
}

fn health(options: &Options) -> anyhow::Result<()> {
    print(&runtime()?.block_on(gateway::health(options))?)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").context("standard output cannot be written")
}

fn run(options: &Options) -> anyhow::Result<()> {
    let _traces = options.logs().map_err(exit::configuration)?;
    let settings = options.settings().map_err(exit::configuration)?;
    let concern = settings.limits.concern();
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let signals = TaskTracker::new();
        let shutdown = Shutdown::on_signals(&signals)?;
        let gateway = Gateway::bind(settings, &shutdown).await?;
        // Not beside what keeps it from starting.
        if let Some(concern) = concern {
            tracing::warn!("{concern}");
        }
        let (address, tls) = (gateway.address()?, gateway.speaks_tls());
        tracing::info!(%address, tls, "listening");
        gateway.run(&shutdown).await;
        shutdown.now.cancel();
        signals.close();
        signals.wait().await;
        Ok(())
    });
    // A file of keys may hang while it is read, on a mount that is gone: nobody waits for that to end.
    runtime.shutdown_background();
    ended
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let built = runtime.enable_all().build();
    built.context("the runtime cannot start")
}
