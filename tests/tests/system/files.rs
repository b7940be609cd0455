//! A file that is to be read and is not there, cannot be read or is of another kind: every program ends with 2 and says which,
//! before it asks anybody anything.

use std::path::Path;
use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use system_tests::{action, program};
use tokio::process::Command;
use tokio::time::timeout;

use crate::command::DEADLINE;

const REDIS: [&str; 2] = ["--redis", "redis://127.0.0.1:1"];
const LLM: [&str; 4] = ["--llm", "http://127.0.0.1:1/v1", "--model", "m"];

/// A file with an event that can be used, in the folder.
const EVENT: &str = "event";

/// Each way to name a file, which comes last.
fn commands() -> Vec<(&'static str, Vec<&'static str>)> {
    let own = |words: &[&'static str]| words.to_vec();
    let redis = |words: &[&'static str]| [words, &REDIS].concat();
    let worker = |words: &[&'static str], last| [words, &REDIS, &LLM, &[last]].concat();
    let mut commands = vec![
        ("storyfleet", [&REDIS[..], &["audit", "--sent"]].concat()),
        ("storyfleet", [&REDIS[..], &["import"]].concat()),
        (
            "storyfleet",
            own(&[
                "token",
                "--sub",
                "mira",
                "--story",
                "castle=author",
                "--secret-file",
            ]),
        ),
        ("storyfleet", own(&["simulate-scale", "--scaled-object"])),
        ("storyfleet", own(&["simulate-scale", "--load"])),
        (
            "gateway",
            [&redis(&["run"])[..], &["--jwt-secrets"]].concat(),
        ),
        ("gateway", [&redis(&["run"])[..], &["--jwks-file"]].concat()),
        (
            "gateway",
            [&redis(&["check"])[..], &["--jwks-file"]].concat(),
        ),
        ("narrator", worker(&["once", EVENT], "--context")),
        ("mock-llm", own(&["--scenario"])),
        ("mock-llm", own(&["check"])),
    ];
    for agent in ["narrator", "dialogue", "moderator"] {
        commands.extend([
            (agent, [&["once"][..], &LLM].concat()),
            (agent, own(&["replay", "--from-file"])),
            (agent, worker(&["run"], "--prompts")),
            (agent, worker(&["check"], "--prompts")),
        ]);
    }
    commands
}

async fn run(name: &str, words: &[&str], file: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(program(name)?);
    let folder = file.parent().context("a folder")?;
    command
        .current_dir(folder)
        .env_clear()
        .args(words)
        .arg(file);
    if words.contains(&"import") {
        command.arg("copy");
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    Ok(timeout(DEADLINE, output).await??)
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_wrong_usage_everywhere() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let [gone, bad, none] = ["gone", "bad", "none"].map(|name| folder.path().join(name));
    std::fs::write(&bad, "{\n")?;
    std::fs::create_dir(&none)?;
    let event = action(&"castle".parse()?, "a1", "I wait.", None)?;
    std::fs::write(folder.path().join(EVENT), event.encode())?;
    for (name, words) in commands() {
        for file in [&gone, &bad, &none] {
            let output = run(name, &words, file).await?;
            let told = [output.stdout, output.stderr].concat();
            let told = String::from_utf8(told)?;
            ensure!(
                output.status.code() == Some(2),
                "{name} {words:?} {}: {:?} {told}",
                file.display(),
                output.status.code()
            );
            let is_named = told.contains(&*file.to_string_lossy());
            let is_of_the_only_one = told.contains("secrets file") || told.contains("the event");
            ensure!(is_named || is_of_the_only_one, "{name} {words:?}: {told}");
        }
    }
    Ok(())
}
