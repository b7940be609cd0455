//! `storyfleet`: runs the fleet on one machine, and sends to, watches and looks after any fleet.

mod args;
mod audit;
mod bench;
mod copy;
mod costs;
mod dead;
mod doctor;
mod output;
mod render;
mod replicas;
mod revoke;
mod scale;
mod send;
mod story;
mod target;
mod token;
mod top;
mod up;
mod watch;

use std::io;
use std::process::ExitCode;

use agent::{exit, flags};
use clap::Parser;

use crate::args::{Cli, Command};
use crate::output::Output;

#[tokio::main]
async fn main() -> ExitCode {
    let (mut cli, given): (Cli, _) = match flags::parse_seen() {
        Ok(parsed) => parsed,
        Err(error) => return exit::usage(&error),
    };
    cli.target.settle(&given);
    // In a box: it has room for whatever any command holds.
    match Box::pin(run(cli)).await {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => exit::failed(error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let out = Output::new(cli.json);
    let target = cli.target;
    match cli.command {
        Command::Up(args) => {
            target.check_tls()?;
            Box::pin(up::run(args, target, out)).await
        }
        Command::Story(command) => story::run(command, &target, out).await,
        Command::Send(args) => send::run(args, &target, out).await,
        Command::Watch(args) => watch::run(args, &target, out).await,
        Command::Export(args) => {
            let bus = target.bus().await?;
            Box::pin(copy::export(args, &bus, out)).await
        }
        Command::Import(args) => Box::pin(copy::import(args, &target, out)).await,
        Command::Fork(args) => {
            let bus = target.bus().await?;
            Box::pin(copy::fork(args, &bus, out)).await
        }
        Command::Dead(command) => dead::run(command, &target.bus().await?, out).await,
        Command::Doctor(args) => doctor::run(args, &target, out).await,
        Command::Top(args) => Box::pin(top::run(args, &target, out)).await,
        Command::Costs(args) => costs::run(&args, &target.bus().await?, out).await,
        Command::Audit(args) => audit::run(&args, &target, out).await,
        Command::Token(args) => token::run(args, out),
        Command::Revoke(args) => revoke::run(args, &target.bus().await?, out).await,
        Command::SimulateScale(args) => scale::run(&args, out),
        Command::Help { command } => Ok(help(&command)),
        Command::Bench(args) => {
            target.check_tls()?;
            bench::run(args, out).await
        }
        Command::Bare(args) => bench::bare::run(&args, &target.bus().await?).await,
        Command::Node(command) => bench::edge::node::run(command, &target).await,
    }
}

/// The same as `--help` of that command.
fn help(command: &[String]) -> ExitCode {
    let words = ["storyfleet"]
        .into_iter()
        .chain(command.iter().map(String::as_str));
    match Cli::try_parse_from(words.chain(["--help"])) {
        Err(shown) => exit::usage(&shown),
        Ok(_) => ExitCode::SUCCESS,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
