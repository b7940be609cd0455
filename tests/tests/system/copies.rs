//! Stories as files, and stories made of others: `export`, `import`, `fork`.

use std::path::Path;

use story::{Agent, Policies};
use system_tests::{Options, Stack, program};
use tokio::process::Command;

use crate::command::{run, says};

/// How an agent's replay of these ends, and what it says.
async fn replay(agent: &str, arguments: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = Command::new(program(agent)?);
    let ended = command.arg("replay").args(arguments).output().await?;
    let says = String::from_utf8(ended.stdout)? + &String::from_utf8(ended.stderr)?;
    Ok((ended.status.code(), says))
}

/// Two actions, each answered by the narrator; then a third that nobody answers.
async fn told() -> anyhow::Result<(Stack, tempfile::TempDir)> {
    let stack = Stack::start(Options::default()).await?;
    let castle = stack.story("castle", Policies::default()).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    for (id, answers) in [("a1", 1), ("a2", 2)] {
        stack.act(&castle, id, "I light the lamp.").await?;
        stack.audit(answers).await?;
    }
    assert!(narrator.end().await?.success());
    stack.act(&castle, "a3", "I wait.").await?;
    Ok((stack, tempfile::tempdir()?))
}

async fn exported(stack: &Stack, folder: &Path) -> anyhow::Result<String> {
    let url = stack.redis_url();
    let text = says(folder, &["--redis", &url, "export", "--story", "castle"]).await?;
    let file = folder.join("castle.ndjson");
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

#[tokio::test]
async fn a_story_that_was_exported_and_imported_replays_and_goes_on() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let file = exported(&stack, folder.path()).await?;
    let (code, told) = replay("narrator", &["--from-file", &file]).await?;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("2 turns: 2 same"), "{told}");

    let url = stack.redis_url();
    let import = ["--redis", &url, "import", &file, "copy"];
    let made = says(folder.path(), &import).await?;
    assert_eq!(
        made,
        "made copy: 5 events, 2 recordings; 1 actions without an answer are with their agents\n"
    );
    let again = run(folder.path(), &import).await?;
    assert_eq!(again.status.code(), Some(1));
    let (code, told) = replay("narrator", &["--redis", &url, "--story", "copy"]).await?;
    assert_eq!(code, Some(0), "{told}");
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
async fn a_file_that_is_none_makes_no_story() -> anyhow::Result<()> {
    let (stack, folder) = told().await?;
    let file = exported(&stack, folder.path()).await?;
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
    for (text, words) in [
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
    stack.end().await;
    Ok(())
}
