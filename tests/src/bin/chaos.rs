//! The chaos run as a program: `make chaos`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use system_tests::chaos;
use system_tests::ordeal::{self, Usual, say, unless_ended};

/// Runs the fleet while its processes and its Redis are killed, ended and frozen, what they tell each other comes late, and
/// its model fails; then accounts for every action: none lost, none answered twice, none out of order, none seen that a
/// story held back, no key left behind.
///
/// 4 processes of each agent, 50 stories, 3 publishers, 35 actions and 5 blows a second. Exit 0: clean; 1: not, with what
/// is wrong, and where the data and logs are. A run that did not show all it is for (each kind of blow, a fault of the
/// model, a blocked action, a takeover, a zombie that was FENCED, a reader who came back) is not clean: in less than a
/// minute that may happen.
///
/// The same seed plays the same actions in the same stories and deals the same blows to the same processes, each at its
/// time. What they hit is not the same again: which event a worker has in hand follows from how fast everything is, and
/// which calls of the model fail from what is asked and how often.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  make chaos\n  make chaos ARGS='--minutes 10 --seed 7'")]
struct Args {
    /// How long the blows fall; the account follows
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    #[command(flatten)]
    usual: Usual,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(run).await
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let run = chaos::run(args.usual.seed(), length, say);
    match unless_ended(run).await? {
        Some(report) => args.usual.tell(&report, report.is_clean()),
        None => Ok(ExitCode::FAILURE),
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text
        .parse()
        .ok()
        .filter(|minutes| (0.1..=600.0).contains(minutes));
    minutes.ok_or_else(|| "write a number of minutes from 0.1 to 600".to_owned())
}
