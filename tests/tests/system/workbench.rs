//! Trying prompts and models on what was recorded: as a story of its own, judged, and taken for right.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use story::{Agent, Policies};
use system_tests::{Options, Stack, program};
use tokio::process::Command;

use crate::command::says;

/// How the narrator's replay of these ends, and its lines.
async fn replay(arguments: &[&str]) -> anyhow::Result<(Option<i32>, Vec<String>)> {
    let mut command = Command::new(program("narrator")?);
    command
        .env_remove("STORYFLEET_PROMPTS")
        .env_remove("LLM_URL");
    let ended = command.arg("replay").args(arguments).output().await?;
    let text = String::from_utf8(ended.stdout)? + &String::from_utf8(ended.stderr)?;
    Ok((
        ended.status.code(),
        text.lines().map(str::to_owned).collect(),
    ))
}

/// The golden story in a file of one's own.
fn golden(folder: &Path) -> anyhow::Result<String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lamp.ndjson");
    let file = folder.join("lamp.ndjson");
    std::fs::copy(from, &file)?;
    Ok(file.display().to_string())
}

/// The narrator's prompts, with one word changed.
fn changed(folder: &Path) -> anyhow::Result<String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../prompts/narrator");
    let to = folder.join("prompts/narrator");
    std::fs::create_dir_all(&to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let text = std::fs::read_to_string(entry.path())?;
        let text = text.replacen("You are the narrator", "You are the teller", 1);
        std::fs::write(to.join(entry.file_name()), text)?;
    }
    Ok(folder.join("prompts").display().to_string())
}

#[tokio::test]
async fn a_replay_is_told_as_a_story_of_its_own_and_never_into_another() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let (url, prompts) = (stack.redis_url(), changed(folder.path())?);
    let castle = stack.story("castle", Policies::default()).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    for (id, answers) in [("a1", 1), ("a2", 2)] {
        stack.act(&castle, id, "I light the lamp.").await?;
        stack.audit(answers).await?;
    }
    assert!(narrator.end().await?.success());
    let publish = ["--redis", &url, "--story", "castle", "--publish-to", "new"];
    let other = ["--llm", "mock", "--prompts", &prompts];
    let (code, lines) = replay(&[&publish[..], &other].concat()).await?;
    assert_eq!(code, Some(1), "{lines:?}");
    assert!(
        lines.contains(&"made new: 4 events".to_owned()),
        "{lines:?}"
    );
    let told = async |story| {
        let export = ["--redis", &url, "export", "--story", story];
        says(folder.path(), &export).await
    };
    let new = told("new").await?;
    let of = |kind: &str| new.matches(&format!("\"type\":\"{kind}\"")).count();
    assert_eq!((of("action"), of("narration")), (2, 2), "{new}");
    let reference = |text: &str| {
        let from = text.find("narrator-system@").unwrap_or_default();
        text[from..].split('+').next().map(str::to_owned)
    };
    assert_ne!(reference(&new), reference(&told("castle").await?));
    let (code, lines) = replay(&publish).await?;
    assert_eq!(code, Some(1), "{lines:?}");
    let refused = lines
        .iter()
        .any(|line| line.contains("there is already a story 'new'"));
    assert!(refused, "{lines:?}");
    assert_eq!(told("new").await?, new);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn answers_that_a_moderator_would_judge_are_not_told_by_a_replay() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let (file, url) = (golden(folder.path())?, stack.redis_url());
    let publish = ["--from-file", &file, "--redis", &url, "--publish-to", "new"];
    let (code, lines) = replay(&publish).await?;
    assert_eq!(code, Some(2), "{lines:?}");
    let list = says(folder.path(), &["--redis", &url, "story", "list"]).await?;
    assert_eq!(list, "");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_a_changed_prompt_does_is_taken_for_right_when_it_is_accepted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, prompts) = (golden(folder.path())?, changed(folder.path())?);
    let with = ["--from-file", &file, "--prompts", &prompts];
    assert_eq!(replay(&with).await?.0, Some(1));
    let (code, lines) = replay(&[&with[..], &["--accept"]].concat()).await?;
    assert_eq!(code, Some(0), "{lines:?}");
    let (code, lines) = replay(&with).await?;
    assert_eq!(code, Some(0), "{lines:?}");
    // The others' turns are as they were.
    let dialogue = Command::new(program("dialogue")?)
        .args(["replay", "--from-file", &file])
        .output()
        .await?;
    assert!(dialogue.status.success());
    Ok(())
}

#[tokio::test]
async fn a_judge_says_of_each_new_answer_whether_it_is_better() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, prompts) = (golden(folder.path())?, changed(folder.path())?);
    let judge = ["--from-file", &file, "--prompts", &prompts, "--judge"];
    let (code, lines) = replay(&judge).await?;
    assert_eq!(code, Some(2), "{lines:?}");
    let live = [&judge[..], &["--llm", "mock", "--diff", "json"]].concat();
    let (code, lines) = replay(&live).await?;
    assert_eq!(code, Some(1), "{lines:?}");
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()?;
    let (all, turns) = lines.split_last().context("lines")?;
    for turn in turns {
        assert!(turn["judge"]["better"].is_string(), "{turn}");
    }
    let judged = &all["table"]["judge"];
    let says = ["replayed", "recorded", "neither"].map(|who| judged[who].as_u64());
    let said: u64 = says.into_iter().flatten().sum();
    assert_eq!(usize::try_from(said)?, turns.len(), "{all}");
    assert_eq!(judged["failed"], 0, "{all}");
    Ok(())
}
