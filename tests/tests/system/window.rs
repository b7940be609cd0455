//! The window of a model: what of a story its prompts hold, told without asking anybody, and what becomes of a turn that
//! no window could hold.

use std::path::Path;
use std::pin::pin;
use std::process::Output;

use agent::Recording;
use anyhow::{Context, ensure};
use futures::TryStreamExt;
use serde_json::{Value, json};
use story::{Agent, Payload, Policies};
use system_tests::{Options, Stack, action, program};
use tokio::process::Command;
use tokio::time::timeout;

use crate::command::DEADLINE;

/// `narrator once --explain` in a folder with the event and a story that is longer than a small window.
async fn explained(folder: &Path, words: &[&str]) -> anyhow::Result<Output> {
    let event = action(&"castle".parse()?, "a1", "I look for the old gate.", None)?;
    std::fs::write(folder.join("event.json"), event.encode())?;
    let long = "The harbour sleeps under snow, and nobody remembers who lit the lamp. ".repeat(8);
    let narration = |number: usize| {
        json!({
            "v": 1, "id": format!("n{number}"), "type": "narration", "story": "castle",
            "author": {"kind": "agent", "id": "narrator", "name": ""}, "text": format!("{number} {long}"),
            "choices": [], "speak": [], "status": "complete", "cause": [], "hop": 1, "at": "2026-11-24T01:02:03Z",
        })
    };
    let lore: serde_json::Map<String, Value> = (0..12)
        .map(|number| (format!("a place {number}"), json!(long)))
        .chain([("old gate".to_owned(), json!("It creaks."))])
        .collect();
    let history: Vec<Value> = (0..20).map(narration).collect();
    let story = json!({"premise": "A lamp burns.", "lore": lore, "history": history});
    std::fs::write(folder.join("story.json"), story.to_string())?;
    let mut command = Command::new(program("narrator")?);
    command.current_dir(folder).env_clear().kill_on_drop(true);
    command
        .args(["once", "--explain", "event.json"])
        .args(words);
    Ok(timeout(DEADLINE, command.output()).await??)
}

#[tokio::test]
async fn a_turn_is_explained_without_a_model_and_the_same_as_json() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("models.yaml"),
        "models: {tiny: {window: 4100}}",
    )?;
    let words = [
        "--context",
        "story.json",
        "--models",
        "models.yaml",
        "--model",
        "tiny",
    ];
    let output = explained(folder.path(), &words).await?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{text}");
    for part in [
        "--- system\nYou are the narrator",
        "--- user\n# What happened last\n<<<x000000 Narrator: …",
        "# Now\n<<<x000000 Mira does: I look for the old gate. x000000>>>",
        "in the window of tiny, 4100; estimated at 333 for 1000 bytes",
        "\nsection ",
        "\nrules ",
        "\nhistory:\n",
        "cut to its end, which fits",
        "left out, what its section may have was full",
    ] {
        ensure!(text.contains(part), "no {part:?} in\n{text}");
    }
    let output = explained(folder.path(), &[&words[..], &["--json"]].concat()).await?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let content = told["messages"][1]["content"].as_str().context("a text")?;
    ensure!(text.contains(content), "{told}");
    ensure!(
        told["window"] == json!({"tokens": 4100, "answer": 1000, "counting": {"estimate": 333}})
    );
    let tokens = &told["manifest"]["tokens"];
    ensure!(
        tokens["used"].as_u64() <= tokens["room"].as_u64(),
        "{tokens}"
    );
    Ok(())
}

#[tokio::test]
async fn a_model_of_openai_is_known_by_its_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let words = [
        "--context",
        "story.json",
        "--model",
        "gpt-4o-mini",
        "--json",
    ];
    let output = explained(folder.path(), &words).await?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let counting = json!({"exact": "o200k_base"});
    ensure!(
        told["window"] == json!({"tokens": 128_000, "answer": 1000, "counting": counting}),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn a_window_smaller_than_the_rules_is_told_and_fails_the_turn_unasked() -> anyhow::Result<()>
{
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    std::fs::write(&file, "models: {mock: {window: 600, answer: 100}}")?;
    let file = file.to_string_lossy();
    let output = explained(folder.path(), &["--models", &file, "--model", "mock"]).await?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{told}");
    ensure!(
        told.contains("a window of 600 leaves 162 for both"),
        "{told}"
    );

    let stack = Stack::start(Options::default()).await?;
    let (worker, _log) = stack.worker_with(Agent::Narrator, &["--models", &file])?;
    let story = stack.story("castle", Policies::default()).await?;
    let said = stack.act(&story, "a1", "I wait.").await?;
    let mut watcher = stack.hear(&story).await?;
    let ended = watcher.end_of(&said).await?;
    let Payload::Failed(failed) = ended.payload() else {
        anyhow::bail!("{ended:?}");
    };
    ensure!(failed.class == "context", "{failed:?}");
    ensure!(stack.calls_for(&said).await? == 0, "the model was asked");
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_estimate_follows_what_the_model_counts_and_is_kept_with_each_turn() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let (worker, _log) = stack.worker_with(Agent::Narrator, &[])?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut watcher = stack.hear(&story).await?;
    for id in ["a1", "a2", "a3"] {
        let said = stack.act(&story, id, "I wait.").await?;
        watcher.end_of(&said).await?;
    }
    let mut counted = Vec::new();
    let mut recordings = pin!(stack.bus.all_recordings(&story));
    while let Some(kept) = recordings.try_next().await? {
        let turn = Recording::read(&Recording::unpacked(&kept.bytes)?)?;
        let window = turn.made_with.window.context("a window")?;
        let effects = turn.effects.context("an answer")?;
        let manifest = effects.manifest.as_ref().context("a manifest")?;
        ensure!(manifest.tokens.is_some(), "{manifest:?}");
        let counting = serde_json::to_value(window)?["counting"]["estimate"].as_u64();
        counted.push(counting.context("an estimate")?);
    }
    // The mock counts a token for four bytes.
    let falls = counted.windows(2).all(|pair| pair[1] < pair[0]);
    ensure!(
        counted.len() == 3 && counted[0] == 333 && falls,
        "{counted:?}"
    );
    worker.end().await?;
    stack.end().await;
    Ok(())
}
