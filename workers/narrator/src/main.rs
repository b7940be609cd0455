//! The narrator process.

use std::process::ExitCode;

use agent::NoOptions;
use narrator::Narrator;

fn main() -> ExitCode {
    agent::main(story::Agent::Narrator, |setup, _: &NoOptions| {
        Ok(Narrator::new(setup)?)
    })
}
