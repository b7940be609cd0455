//! The narrator process.

use std::process::ExitCode;

use narrator::Narrator;
use scene::Budget;

fn main() -> ExitCode {
    agent::main(story::Agent::Narrator, |budget: &Budget| {
        Narrator::new(*budget)
    })
}
