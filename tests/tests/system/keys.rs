//! Keys that are exchanged while everything runs: the model's, and those of tokens.

use std::fs::write;

use anyhow::Context;
use story::{Agent, Outcome, Policies};
use system_tests::{Options, Stack};

const NEW: &str = "there is a new key";
const REFUSED: &str = "the model's key file does not do";

#[tokio::test]
async fn a_new_key_of_the_model_is_taken_while_a_worker_runs() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.change_model_key("sk-first").await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("key");
    write(&file, "sk-first\n")?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let path = file.to_str().context("a path of text")?;
    let (worker, mut log) = stack.worker_with(Agent::Narrator, &["--llm-key-file", path])?;
    let first = stack.act(&story, "a", "I go on.").await?;
    assert_eq!(reader.outcome_of(&first).await?, Outcome::Answered);

    // What cannot be a key changes nothing, and is told without being shown.
    write(&file, "sk-sec\nond")?;
    log.line(REFUSED).await?;
    let second = stack.act(&story, "b", "I go on.").await?;
    assert_eq!(reader.outcome_of(&second).await?, Outcome::Answered);

    write(&file, "sk-second\n")?;
    log.line(NEW).await?;
    stack.change_model_key("sk-second").await?;
    let third = stack.act(&story, "c", "I go on.").await?;
    assert_eq!(reader.outcome_of(&third).await?, Outcome::Answered);
    assert!(log.with("sk-").is_empty(), "{:?}", log.with("sk-"));
    assert!(worker.end().await?.success());
    stack.audit(3).await?;
    stack.end().await;
    Ok(())
}
