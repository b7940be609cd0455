//! `storyfleet help`: the same as `--help` of that command.

use std::io;
use std::process::ExitCode;

use agent::exit;
use anyhow::anyhow;
use clap::CommandFactory;

use crate::args::Cli;

pub(crate) fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word).ok_or_else(|| {
            exit::configuration(anyhow!(
                "there is no command '{word}': `storyfleet help` lists them"
            ))
        })?;
    }
    match found.print_long_help() {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
