//! The sample as a program: `make sample`.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use system_tests::ordeal::{self, say};
use system_tests::sample::{Plan, run};

/// Plays the demo story with a model, and prints the transcript as Markdown with counts of how it went.
///
/// `storyfleet up` runs all agents and a Redis of its own; nothing is left of them afterwards. docs/sample.md is what it
/// printed.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make sample ARGS='--llm http://127.0.0.1:8080/v1 --model tiny'\n  make sample ARGS='--llm http://127.0.0.1:8080/v1 --model tiny --turns 5' > sample.md"
)]
struct Args {
    #[command(flatten)]
    plan: Plan,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(sample).await
}

async fn sample(args: &Args) -> anyhow::Result<ExitCode> {
    match run(&args.plan, say).await? {
        Some(sample) => {
            write!(std::io::stdout(), "{sample}")?;
            Ok(ExitCode::SUCCESS)
        }
        None => Ok(ExitCode::FAILURE),
    }
}
