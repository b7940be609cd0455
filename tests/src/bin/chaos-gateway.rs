//! The chaos run of the edge as a program: `make chaos-gateway`.

use std::process::ExitCode;

use clap::Parser;
use system_tests::cuts::{self, Size};
use system_tests::ordeal::{self, Usual, say, unless_ended};

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
    #[command(flatten)]
    usual: Usual,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(run).await
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let size = Size {
        cuts: args.cuts,
        readers: args.readers,
        stories: args.stories,
        seed: args.usual.seed(),
    };
    match unless_ended(cuts::run(size, say)).await? {
        Some(report) => args.usual.tell(&report, report.is_clean()),
        None => Ok(ExitCode::FAILURE),
    }
}
