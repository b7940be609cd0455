//! Trying prompts and models on what was recorded: as a story of its own, judged, and taken for right.

use std::path::Path;

use anyhow::Context;
use story::Agent;
use system_tests::{Options, Stack};
use tempfile::TempDir;

use super::prompts::prompts;
use super::{JSON, NOWHERE, Replayed, castle, replay_at};
use crate::command::says;

/// The narrator's replay of these.
async fn replay(redis: &str, arguments: &[&str]) -> anyhow::Result<Replayed> {
    replay_at(redis, Agent::Narrator, arguments).await
}

/// The golden story in a file of one's own.
fn golden(folder: &Path) -> anyhow::Result<String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lamp.ndjson");
    let file = folder.join("lamp.ndjson");
    std::fs::copy(from, &file)?;
    Ok(file.display().to_string())
}

/// The prompts of the workspace, with one word of the narrator's changed.
fn changed() -> anyhow::Result<(TempDir, String)> {
    let folder = prompts(
        "narrator/system.md",
        "You are the narrator of",
        "You are the teller of",
    )?;
    let path = folder.path().display().to_string();
    Ok((folder, path))
}

#[tokio::test]
async fn a_replay_is_told_as_a_story_of_its_own_and_never_into_another() -> anyhow::Result<()> {
    let (stack, _) = castle(Options::default(), &["a1", "a2"]).await?;
    let folder = tempfile::tempdir()?;
    let (_prompts, prompts) = changed()?;
    let url = stack.redis_url();
    let publish = ["--story", "castle", "--publish-to", "new"];
    let other = ["--llm", "mock", "--prompts", &prompts];
    let again = replay(&url, &[&publish[..], &other].concat()).await?;
    assert_eq!(again.code, Some(1), "{again:#?}");
    assert!(again.out.contains("made new: 4 events\n"), "{again:#?}");
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
    let second = replay(&url, &publish).await?;
    assert_eq!(second.code, Some(1), "{second:#?}");
    let refused = second.err.contains("there is already a story 'new'");
    assert!(refused, "{second:#?}");
    assert_eq!(told("new").await?, new);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn answers_that_a_moderator_would_judge_are_not_told_by_a_replay() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let folder = tempfile::tempdir()?;
    let (file, url) = (golden(folder.path())?, stack.redis_url());
    let again = replay(&url, &["--from-file", &file, "--publish-to", "new"]).await?;
    assert_eq!(again.code, Some(2), "{again:#?}");
    let list = says(folder.path(), &["--redis", &url, "story", "list"]).await?;
    assert_eq!(list, "");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_a_changed_prompt_does_is_taken_for_right_when_it_is_accepted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, (_prompts, prompts)) = (golden(folder.path())?, changed()?);
    let with = ["--from-file", &file, "--prompts", &prompts];
    let accept = [&with[..], &["--accept"]].concat();
    for (arguments, code) in [(&with[..], 1), (&accept, 0), (&with, 0)] {
        let again = replay(NOWHERE, arguments).await?;
        assert_eq!(again.code, Some(code), "{again:#?}");
    }
    // The others' turns are as they were.
    let dialogue = replay_at(NOWHERE, Agent::Dialogue, &["--from-file", &file]).await?;
    assert_eq!(dialogue.code, Some(0), "{dialogue:#?}");
    Ok(())
}

#[tokio::test]
async fn a_failure_is_not_taken_for_an_answer() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = golden(folder.path())?;
    let fails =
        r#"{% if actions[0].text == "I light the lamp." %}{{ actions[9].text }}{% endif %}"#;
    let broken = prompts("narrator/turn.md", "# Now", &format!("{fails}# Now"))?;
    let broken = broken.path().display().to_string();
    let accept = ["--from-file", &file, "--prompts", &broken, "--accept"];
    let again = replay(NOWHERE, &accept).await?;
    assert_eq!(again.code, Some(1), "{again:#?}");
    let sum = "3 turns: 0 same, 2 accepted, 1 differ";
    assert!(again.out.contains(sum), "{again:#?}");
    // It is as it was, and the others are of the other prompts.
    let again = replay(NOWHERE, &[&["--from-file", &file], &JSON[..]].concat()).await?;
    let turns = again.lines()?;
    let outcomes: Vec<_> = turns.iter().map(|turn| turn["outcome"].as_str()).collect();
    let expected = [Some("same"), Some("differs"), Some("differs"), None];
    assert_eq!(outcomes, expected, "{again:#?}");
    Ok(())
}

#[tokio::test]
async fn a_file_behind_a_link_is_written_where_it_is() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, (_prompts, prompts)) = (golden(folder.path())?, changed()?);
    let link = folder.path().join("link.ndjson");
    std::os::unix::fs::symlink(&file, &link)?;
    let through = link.display().to_string();
    let accept = ["--from-file", &through, "--prompts", &prompts, "--accept"];
    let again = replay(NOWHERE, &accept).await?;
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(link.is_symlink());
    let with = ["--from-file", &file, "--prompts", &prompts];
    let again = replay(NOWHERE, &with).await?;
    assert_eq!(again.code, Some(0), "{again:#?}");
    Ok(())
}

#[tokio::test]
async fn a_judge_says_of_each_new_answer_whether_it_is_better() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, (_prompts, prompts)) = (golden(folder.path())?, changed()?);
    let judge = ["--from-file", &file, "--prompts", &prompts, "--judge"];
    let again = replay(NOWHERE, &judge).await?;
    assert_eq!(again.code, Some(2), "{again:#?}");
    let live = [&judge[..], &["--llm", "mock"], &JSON].concat();
    let again = replay(NOWHERE, &live).await?;
    assert_eq!(again.code, Some(1), "{again:#?}");
    let lines = again.lines()?;
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
