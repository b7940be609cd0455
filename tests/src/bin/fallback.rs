//! The run of the fallback as a program: `make fallback`.

use std::process::ExitCode;

use clap::Parser;
use system_tests::fallback::{Plan, run};
use system_tests::ordeal::{self, say, tell, unless_ended};

/// Has many workers ask a model that fails, with another one in its place, and accounts for every request and every text.
///
/// Workers of dialogue, each a process, ask a model that stalls, cuts, lies and asks to slow down, as often as is said, and
/// know another one that does not (docs/models.md). In each story somebody says one thing after the other. Exit 0: clean;
/// 1: not. Every line must be answered, no reader may see a text of two answers, and there may be 110 requests for 100
/// calls at most.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make fallback ARGS='--lines 200 --faults 100'\n  make fallback"
)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(fallback).await
}

async fn fallback(args: &Args) -> anyhow::Result<ExitCode> {
    match unless_ended(run(args.plan, say)).await? {
        Some(report) => tell(&report, report.is_clean(), args.json),
        None => Ok(ExitCode::FAILURE),
    }
}
