//! The moderator process.

use std::process::ExitCode;

use moderator::{Moderator, Options};

fn main() -> ExitCode {
    agent::main(story::Agent::Moderator, |setup, options: &Options| {
        Ok(Moderator::new(setup, options)?)
    })
}
