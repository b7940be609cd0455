//! The dialogue process.

use std::process::ExitCode;

use agent::NoOptions;
use dialogue::Dialogue;

fn main() -> ExitCode {
    agent::main(story::Agent::Dialogue, |setup, _: &NoOptions| {
        Ok(Dialogue::new(setup)?)
    })
}
