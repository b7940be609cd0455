//! The chaos run of the edge as a program: `make chaos-gateway`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use system_tests::cuts::{self, Size};
use tokio::signal::unix::{SignalKind, signal};

/// Cuts readers off at any instant, in the middle of frames too, and has them come back to either of two nodes with their
/// last cursor, while long answers stream, and nodes, agents and Redis are killed; then compares what each reader has with
/// the log: no character lost, none doubled, nothing left of what was taken back.
///
/// Half of the readers are on WebSocket, half on SSE; actions are sent over WebSocket and HTTP. Exit 0: clean; 1: not, with
/// what is wrong, and where the data and logs are. A run that did not show all it is for (each kind of cut and of blow,
/// returns into drafts, a text taken back) is not clean.
///
/// The same seed plays the same actions, and cuts each reader after the same times. What they hit follows from how fast
/// everything is.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make chaos-gateway\n  make chaos-gateway ARGS='--cuts 50000 --seed 7'"
)]
struct Args {
    /// Connections that are cut, of all readers
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    cuts: u32,
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(4..=5_000))]
    readers: u32,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=500))]
    stories: u32,
    /// The schedule of actions, cuts and blows; not of what they hit [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return exit::usage(&error),
    };
    match run(&args).await {
        Ok(code) => code,
        Err(error) => exit::failed(&error),
    }
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let new = || rand::random_range(0..1_000_000);
    let size = Size {
        cuts: args.cuts,
        readers: args.readers,
        stories: args.stories,
        seed: args.seed.unwrap_or_else(new),
    };
    say(&format!("seed {}", size.seed));
    let (mut interrupted, mut ended, mut closed) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    // Dropping the run kills its children.
    let report = tokio::select! {
        report = cuts::run(size, say) => report?,
        _ = interrupted.recv() => return Ok(ExitCode::FAILURE),
        _ = ended.recv() => return Ok(ExitCode::FAILURE),
        // The terminal's end: Redis would outlive it.
        _ = closed.recv() => return Ok(ExitCode::FAILURE),
    };
    let text = if args.json {
        serde_json::to_string_pretty(&report)?
    } else {
        report.to_string()
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A line on the way; the report alone is on stdout.
fn say(line: &str) {
    // Nobody needs to listen.
    let _ = writeln!(std::io::stderr(), "{line}");
}
