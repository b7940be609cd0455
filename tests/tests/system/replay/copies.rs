//! Stories as files, and stories made of others: `export`, `import`, `fork`.

use story::Agent;
use system_tests::{Options, Stack};
use tempfile::TempDir;

use super::{NOWHERE, castle, export, replay_at};
use crate::command::{run, says};

/// Two actions, each answered by the narrator; then a third that nobody answers.
async fn told() -> anyhow::Result<(Stack, TempDir)> {
    let (stack, castle) = castle(Options::default(), &["a1", "a2"]).await?;
    stack.act(&castle, "a3", "I wait.").await?;
    Ok((stack, tempfile::tempdir()?))
}

async fn exported(stack: &Stack, folder: &TempDir) -> anyhow::Result<String> {
    let file = folder.path().join("castle.ndjson");
    export(stack, &"castle".parse()?, &file).await?;
    Ok(file.display().to_string())
}

#[tokio::test]
async fn a_story_that_was_exported_and_imported_replays_and_goes_on() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let file = exported(&stack, &folder).await?;
    let told = replay_at(NOWHERE, Agent::Narrator, &["--from-file", &file]).await?;
    assert_eq!(told.code, Some(0), "{told:#?}");
    assert!(told.out.contains("2 turns: 2 same"), "{told:#?}");

    let url = stack.redis_url();
    let import = ["--redis", &url, "import", &file, "copy"];
    let made = says(folder.path(), &import).await?;
    assert_eq!(
        made,
        "made copy: 5 events, 2 recordings; 1 actions without an answer are with their agents\n"
    );
    let again = run(folder.path(), &import).await?;
    assert_eq!(again.status.code(), Some(2));
    let told = replay_at(&url, Agent::Narrator, &["--story", "copy"]).await?;
    assert_eq!(told.code, Some(0), "{told:#?}");
    let _narrator = stack.worker(Agent::Narrator)?;
    stack.audit(6).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_fork_has_what_was_told_up_to_its_place_and_goes_another_way() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let url = stack.redis_url();
    let fork = ["--redis", &url, "fork", "castle", "other", "--at"];
    let refused = run(folder.path(), &[&fork[..], &["9"]].concat()).await?;
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr)?;
    assert!(errors.contains("castle ends at 5"), "{errors}");

    let made = says(folder.path(), &[&fork[..], &["3"]].concat()).await?;
    assert!(
        made.starts_with("made other: 3 events, 0 recordings; 1 actions"),
        "{made}"
    );
    let _narrator = stack.worker(Agent::Narrator)?;
    // Of the one story three, of the other one the first and the second anew.
    stack.audit(5).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_fork_of_what_is_not_there_any_more_leaves_nothing() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let url = stack.redis_url();
    stack.redis(&["XDEL", "sf:{0}:log:castle", "4-0"]).await?;
    let fork = ["--redis", &url, "fork", "castle", "other", "--at", "4"];
    let refused = run(folder.path(), &fork).await?;
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr)?;
    assert!(errors.contains("has no event at 4 any more"), "{errors}");
    let keys = stack.redis.command(&[b"KEYS", b"*other*"]).await?;
    assert_eq!(keys, "*0");
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_none_makes_no_story() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let file = exported(&stack, &folder).await?;
    let text = std::fs::read_to_string(&file)?;
    let url = stack.redis_url();
    let later = text.replacen("\"v\":1", "\"v\":7", 1);
    let cut = text[..text.len() / 2].to_owned();
    let holed: String = text
        .lines()
        .enumerate()
        .filter(|(number, _)| *number != 2)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    let large = text.replacen(
        r#""premise":""#,
        &format!(r#""premise":"{}"#, "x".repeat(bus::MAX_STORY_BYTES)),
        1,
    );
    let swapped = text.replacen(r#"{"seq":2,"#, r#"{"seq":1,"#, 1);
    let wordy = text.replacen(
        r#""text":""#,
        &format!(r#""text":"{}"#, "x".repeat(story::MAX_EVENT_BYTES)),
        1,
    );
    let far = text.replacen(r#"{"seq":5,"#, r#"{"seq":9007199254740993,"#, 1);
    let first = text.lines().nth(1).unwrap_or_default();
    let id = first.split(r#""id":""#).nth(1).unwrap_or_default();
    let id = id.split('"').next().unwrap_or_default();
    let twice = text.replacen(r#""id":"a2""#, &format!(r#""id":"{id}""#), 1);
    for (text, words) in [
        (far, "no log has the place 9007199254740993"),
        (twice, "is there twice"),
        (large, "what is known of the story has"),
        (swapped, "the event at 1 comes after the one at 1"),
        (wordy, "the event has"),
        (later, "is of version 7"),
        (cut, "is cut off"),
        (holed, "lines are missing"),
        ("{}\n".to_owned(), "is no export of a story"),
    ] {
        std::fs::write(&file, text)?;
        let refused = run(folder.path(), &["--redis", &url, "import", &file, "copy"]).await?;
        let errors = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(2), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    let list = says(folder.path(), &["--redis", &url, "story", "list"]).await?;
    assert_eq!(list, "castle\n");
    let keys = stack.redis.command(&[b"KEYS", b"*staged*"]).await?;
    assert_eq!(keys, "*0", "nothing is left of what was put together");
    stack.end().await;
    Ok(())
}
