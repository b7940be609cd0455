//! The dialogue process.

use std::process::ExitCode;

use dialogue::Dialogue;
use scene::Budget;

fn main() -> ExitCode {
    agent::main(story::Agent::Dialogue, |budget: &Budget| {
        Dialogue::new(*budget)
    })
}
