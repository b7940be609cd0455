//! Trying prompts and models on what was recorded: judged, and taken for right.

use std::path::Path;

use anyhow::Context;
use story::Agent;
use tempfile::TempDir;

use super::prompts::prompts;
use super::{JSON, NOWHERE, Replayed, replay_at};

/// The narrator's replay of these.
pub(super) async fn replay(redis: &str, arguments: &[&str]) -> anyhow::Result<Replayed> {
    replay_at(redis, Agent::Narrator, arguments).await
}

/// The golden story in a file of one's own.
pub(super) fn golden(folder: &Path) -> anyhow::Result<String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lamp.ndjson");
    let file = folder.join("lamp.ndjson");
    std::fs::copy(from, &file)?;
    Ok(file.display().to_string())
}

/// The prompts of the workspace, with one word of the narrator's changed.
pub(super) fn changed() -> anyhow::Result<(TempDir, String)> {
    let folder = prompts(
        "narrator/system.md",
        "You are the narrator of",
        "You are the teller of",
    )?;
    let path = folder.path().display().to_string();
    Ok((folder, path))
}

#[tokio::test]
async fn what_a_changed_prompt_does_is_taken_for_right_when_it_is_accepted() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, (_prompts, prompts)) = (golden(folder.path())?, changed()?);
    let with = ["--from-file", &file, "--prompts", &prompts];
    let accept = [&with[..], &["--accept"]].concat();
    let story = ["--story", "castle", "--accept"];
    assert_eq!(replay(NOWHERE, &story).await?.code, Some(2));
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
