//! A terminal that ends what runs in it: by Ctrl-C, and by being closed.

use std::process::Stdio;

use serde_json::Value;
use story::EventId;
use system_tests::{Options, Process, Signal, Stack, eventually, program};
use tokio::process::Command;

use crate::command::{says, storyfleet};

#[tokio::test]
async fn ctrl_c_lets_up_finish_what_it_has_begun() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: std::time::Duration::from_millis(50),
        ..Options::default()
    })
    .await?;
    let data = tempfile::tempdir()?;
    let arguments = ["up", "--llm", stack.llm(), "--model", "mock"];
    let mut command = storyfleet(data.path(), &arguments)?;
    // In a group of its own, as a shell makes one: a terminal sends the signal to all in it.
    command.process_group(0).stdout(Stdio::piped());
    let mut fleet = Process::start(&mut command)?;
    // Kept: it has more to say.
    let mut output = fleet.output()?;
    output.line("ready: ").await?;
    let turn: EventId = "turn-1".parse()?;
    let send = ["send", "demo", "I wait", "--id", turn.as_str()];
    says(data.path(), &send).await?;
    stack.asked(&turn, 1).await?;
    fleet.signal_group(Signal::INT)?;
    assert!(fleet.gone().await?.success());

    let mut fleet = Process::start(command.stdout(Stdio::piped()))?;
    let mut output = fleet.output()?;
    output.line("ready: ").await?;
    let answer = says(data.path(), &[&send[..], &["--wait", "--json"]].concat()).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    assert_eq!(answer["type"], "narration");
    assert_eq!(stack.calls_for(&turn).await?, 1, "it was answered anew");
    assert!(fleet.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_chaos_run_whose_terminal_is_closed_leaves_no_process_behind() -> anyhow::Result<()> {
    let mut command = Command::new(program("chaos")?);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut chaos = Process::start(&mut command)?;
    let mut told = chaos.errors()?;
    told.line("published").await?;
    let children = chaos.children()?;
    assert!(children.len() > 12, "{children:?}");
    chaos.signal(Signal::HUP)?;
    assert_eq!(chaos.gone().await?.code(), Some(1));
    eventually("its processes are gone", async || {
        let left = children.iter().any(|child| Process::runs(*child));
        Ok((!left).then_some(()))
    })
    .await
}
