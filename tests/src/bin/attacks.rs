//! The measure of the attacks as a program: `make attacks`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use system_tests::attacks::{Plan, run};
use system_tests::ordeal::{self, say, tell, unless_ended};

/// Asks a model with each attack of tests/attacks/attacks.yaml, as the narrator would and with the text raw, and tells how
/// often it obeyed.
///
/// A measure and no test: it ends with 0 whatever the model did, and with 1 where it did not answer. Each request asks for
/// one answer after the other. docs/injection.md tells what the figures say.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  make attacks ARGS='--llm http://127.0.0.1:8080/v1 --model tiny'\n  make attacks ARGS='--llm http://127.0.0.1:8080/v1 --model tiny --family leak --answers leak.ndjson'"
)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write each answer into this file, one JSON value a line
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(attacks).await
}

async fn attacks(args: &Args) -> anyhow::Result<ExitCode> {
    let mut file = match &args.answers {
        Some(path) => Some(File::create(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let ran = run(&args.plan, say, |answer| {
        if let Some(file) = &mut file {
            writeln!(file, "{}", serde_json::to_string(answer)?)?;
        }
        Ok(())
    });
    match unless_ended(ran).await? {
        Some(report) => tell(&report, true, args.json),
        None => Ok(ExitCode::FAILURE),
    }
}
