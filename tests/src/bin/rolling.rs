//! A deploy under load as a program: `make test-rolling`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use system_tests::Build;
use system_tests::ordeal::{self, Usual, say, unless_ended};
use system_tests::rolling::{self, Deploy, STEPS};

/// Replaces six workers one by one, from another build's to this one's and back, while people publish 8 actions a second
/// and read over a gateway of either build; answers take about a second, and stream. First workers drain, then they are
/// hurried by a second signal, so that they hand events on to both builds. Then it accounts for every action.
///
/// Exit 0: clean; 1: not, with what is wrong, and where the data and logs are. Clean is: no action lost, answered twice or
/// out of order, none failed, no attempt charged; while workers drained no event paid twice, and none taken later than `--wait`
/// after it could be (published, and its lane free); one that was handed on, not later than its call and that; the text of
/// each reader equal to the log to the character, though they change between the two gateways.
#[derive(Debug, Parser)]
struct Args {
    /// The folder with the other build's programs
    #[arg(long, value_name = "DIR")]
    old: PathBuf,
    /// From one worker to the next, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    pace: u64,
    /// The longest that an event may wait to be taken, in seconds: other versions may be slower
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
    #[command(flatten)]
    usual: Usual,
}

#[tokio::main]
async fn main() -> ExitCode {
    ordeal::main(run).await
}

async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let deploy = Deploy {
        old: Build::at(args.old.clone()),
        new: Build::current()?,
        steps: STEPS.to_vec(),
        pace: Duration::from_secs(args.pace),
        wait: Duration::from_secs(args.wait),
        seed: args.usual.seed(),
    };
    match unless_ended(rolling::run(deploy, say)).await? {
        Some(report) => args.usual.tell(&report, report.is_clean()),
        None => Ok(ExitCode::FAILURE),
    }
}
