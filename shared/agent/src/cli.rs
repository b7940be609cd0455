//! The command line that every agent has: `run`, `once`, `check`. `--help` is the reference of the configuration.

mod check;
mod once;
mod options;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio_util::task::TaskTracker;

use crate::{Agent, Shutdown, telemetry};

pub use options::{NoOptions, Setup};

/// Takes events of its kind from Redis and answers them through a language model.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli<O: Args> {
    #[command(subcommand)]
    command: Command<O>,
}

#[derive(Debug, Subcommand)]
enum Command<O: Args> {
    /// Answer events until SIGTERM or SIGINT; a second signal ends at once
    Run {
        #[command(flatten)]
        options: options::Options<O>,
        #[command(flatten)]
        worker: options::Worker,
    },
    /// Answer one event and print the effects as JSON; nothing is written
    Once {
        #[command(flatten)]
        options: options::Options<O>,
        #[command(flatten)]
        once: once::Once,
    },
    /// Say whether the configuration, the prompts, Redis and the model are usable
    Check {
        #[command(flatten)]
        options: options::Options<O>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The whole program of an agent. `build` makes it from what every agent needs and its own options.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main<A, O>(
    agent: story::Agent,
    build: impl FnOnce(&Setup, &O) -> anyhow::Result<A>,
) -> ExitCode
where
    A: Agent,
    O: Args,
{
    let matches = Cli::<O>::command().name(agent.as_str()).get_matches();
    match start(agent, &matches, build) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn start<A, O>(
    agent: story::Agent,
    matches: &ArgMatches,
    build: impl FnOnce(&Setup, &O) -> anyhow::Result<A>,
) -> anyhow::Result<ExitCode>
where
    A: Agent,
    O: Args,
{
    let cli = Cli::<O>::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    match cli.command {
        Command::Run { options, worker } => {
            options.logs()?;
            let settings = worker.settings(agent, &options)?;
            let agent = build(&options.setup()?, &options.own)?;
            runtime.block_on(run(agent, settings))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Once { options, once } => {
            options.logs()?;
            let agent = build(&options.setup()?, &options.own)?;
            let effects = runtime.block_on(once.run(&agent, &options))?;
            print(&serde_json::to_string_pretty(&effects)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check { options, json } => {
            let built = options
                .setup()
                .and_then(|setup| build(&setup, &options.own).map(|_| setup));
            let report = runtime.block_on(check::run(&options, built));
            print(&report.text(json)?)?;
            Ok(if report.good() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

async fn run<A: Agent>(agent: A, settings: crate::Settings) -> anyhow::Result<()> {
    let signals = TaskTracker::new();
    let shutdown = Shutdown::on_signals(&signals)?;
    let ran = crate::run(agent, settings, shutdown.clone()).await;
    shutdown.now.cancel();
    signals.close();
    signals.wait().await;
    ran
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}").context("the output cannot be written")
}

/// One line on stderr: logs may not run yet, and whoever started the program reads here.
fn complain(error: &anyhow::Error) {
    use std::io::Write;
    // There is nowhere left to say that stderr is closed; the exit code says the rest.
    let _ = writeln!(
        std::io::stderr(),
        "error: {}",
        telemetry::one_line(&format!("{error:#}"))
    );
}
