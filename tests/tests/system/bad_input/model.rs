//! A model that is not there, or that does not take the key.

use std::process::Stdio;

use anyhow::Context;
use story::{Agent, EventId, Policies};
use system_tests::{Model, Options, Output, Process, Stack, program};
use tokio::process::Command;

use super::stream::dead_letter;
use super::{FAILED, NOWHERE, SECRET, run};

/// A narrator that asks the model at that address, and what it logs.
fn narrator(stack: &Stack, llm: &str, key: Option<&str>) -> anyhow::Result<(Process, Output)> {
    let mut command = Command::new(program("narrator")?);
    command
        .args(["run", "--redis", &stack.redis_url(), "--llm", llm])
        .args(["--model", "m", "--llm-patience", "1s", "--log", "json"])
        .env_remove("LLM_API_KEY")
        .envs(key.map(|key| ("LLM_API_KEY", key)))
        .stderr(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let log = process.errors()?;
    Ok((process, log))
}

/// What becomes of an action is a `failed` in the story and a dead letter, both without the key.
async fn fails_as(class: &str, says: &str, llm: &str, key: Option<&str>) -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let (worker, log) = narrator(&stack, llm, key)?;
    let action: EventId = stack.act(&story, "a1", "I open the door").await?;
    let failed = reader.end_of(&action).await?;
    assert_eq!(failed.kind(), "failed");
    let letter = dead_letter(&stack).await?;
    let reason = letter["reason"].as_str().context("a reason")?;
    assert_eq!(letter["class"], class, "{letter}");
    assert!(reason.contains(says), "{reason}");

    assert!(worker.end().await?.success());
    for secret in [SECRET, "panicked"] {
        assert_eq!(log.with(secret), Vec::<String>::new());
        assert!(!format!("{letter} {failed:?}").contains(secret));
    }
    assert_eq!(stack.bus.backlog(Agent::Narrator).await?, 0);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_missing_or_wrong_key_fails_the_action_and_is_not_shown() -> anyhow::Result<()> {
    let model = Model::start("", &["--api-key", "the-right-key"]).await?;
    let llm = model.url();
    let says = "is the API key set, and right?";
    fails_as("auth", says, llm, None).await?;
    fails_as("auth", says, llm, Some("sk-hunter2")).await?;

    let stack = Stack::start(Options::default()).await?;
    let redis = stack.redis_url();
    let check = ["check", "--redis", &redis, "--llm", llm, "--model", "m"];
    let checked = run("narrator", &check).await?;
    assert_eq!(checked.code, Some(FAILED), "{checked:?}");
    assert!(checked.out.contains(says), "{checked:?}");
    stack.end().await;
    model.end().await?;
    Ok(())
}

#[tokio::test]
async fn a_model_that_is_not_there_fails_the_action() -> anyhow::Result<()> {
    let says = "is the model's URL right, and is it up?";
    fails_as("connect", says, NOWHERE, None).await?;
    let check = ["check", "--redis", "redis://127.0.0.1:1", "--llm", NOWHERE];
    let checked = run("narrator", &[&check[..], &["--model", "m"]].concat()).await?;
    assert_eq!(checked.code, Some(FAILED), "{checked:?}");
    for line in [
        "ok   configuration",
        "FAIL redis: Redis is not reachable",
        "FAIL model: connect",
    ] {
        assert!(checked.out.contains(line), "{checked:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_doubtful_model_or_url_is_warned_of_before_a_worker_starts() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let redis = stack.redis_url();
    let without_path = stack.llm().trim_end_matches("/v1");
    for (llm, warning) in [
        (stack.llm(), "warn model: reached; nosuch is not among the"),
        (
            without_path,
            "warn model: reached; it lists no models: see that --llm ends",
        ),
    ] {
        let check = [
            "check", "--redis", &redis, "--llm", llm, "--model", "nosuch",
        ];
        let checked = run("narrator", &check).await?;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.out.contains(warning), "{checked:?}");
    }
    stack.end().await;
    Ok(())
}
