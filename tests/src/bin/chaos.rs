//! The chaos run as a program: `make chaos`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use system_tests::chaos;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the fleet while its processes and its Redis are killed, ended and frozen and its model fails; then accounts for
/// every action: none lost, none answered twice, none out of order, none seen that a story held back, no key left behind.
///
/// 4 processes of each agent, 50 stories, 3 publishers, 35 actions and 4 blows a second. Exit 0: clean; 1: not, with what
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
    /// The schedule of actions and blows; not of what they hit [default: a new one]
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
    match run(args).await {
        Ok(code) => code,
        Err(error) => exit::failed(&error),
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    say(&format!("seed {seed}"));
    let (mut interrupted, mut ended, mut closed) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    // Dropping the run kills its children.
    let report = tokio::select! {
        report = chaos::run(seed, length, say) => report?,
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

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text
        .parse()
        .ok()
        .filter(|minutes| (0.1..=600.0).contains(minutes));
    minutes.ok_or_else(|| "write a number of minutes from 0.1 to 600".to_owned())
}

/// A line on the way; the report alone is on stdout.
fn say(line: &str) {
    // Nobody needs to listen.
    let _ = writeln!(std::io::stderr(), "{line}");
}
