//! The run of the limits as a program: `make limits`.

use std::process::ExitCode;

use clap::Parser;
use system_tests::limits::{Plan, run};
use system_tests::ordeal::{self, say, tell, unless_ended};

/// Has many workers share what a provider grants, and accounts for every call.
///
/// Workers of dialogue, each a process, have one model, which refuses (429) what is beyond its tokens a minute, and know that
/// limit (docs/models.md). In each story somebody says one thing after the other, so that all wait all the time. Exit 0:
/// clean; 1: not. The model may refuse nothing, every line must be answered, and no story may wait for more than twice the
/// mean. It takes about as many minutes as the lines need.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make limits ARGS='--lines 100 --tokens-per-minute 20000'\n  make limits"
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
    ordeal::main(limits).await
}

async fn limits(args: &Args) -> anyhow::Result<ExitCode> {
    match unless_ended(run(args.plan, say)).await? {
        Some(report) => tell(&report, report.is_clean(), args.json),
        None => Ok(ExitCode::FAILURE),
    }
}
