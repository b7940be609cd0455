//! The moderator process.

use std::process::ExitCode;

use moderator::{Moderator, Options};

fn main() -> ExitCode {
    agent::main(story::Agent::Moderator, |options: &Options| {
        Moderator::new(options.clone())
    })
}
