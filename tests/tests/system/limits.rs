//! What models may be asked: limits and budgets that all workers keep together.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use story::{Agent, Payload, Policies, StoryId};
use system_tests::{Options, Output, Process, Stack};

use crate::bad_input::clock::wrong;

/// A story has room for two calls of `dialogue` that reserve some 510 tokens each, not for a third one after them.
const TWO_CALLS: &str = "stories: {per_day: {tokens: 1100}}";

/// The file of models, and the folder that it is in as long as that lives.
fn models(yaml: &str) -> anyhow::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    std::fs::write(&file, yaml)?;
    Ok((folder, file))
}

fn speaker(stack: &Stack, file: &std::path::Path) -> anyhow::Result<(Process, Output)> {
    let file = file.to_string_lossy();
    stack.worker_with(Agent::Dialogue, &["--models", &file])
}

/// How an action ended: the class of its failure, none where it was answered.
async fn end_of(stack: &Stack, story: &StoryId, id: &str) -> anyhow::Result<Option<String>> {
    let action = stack.say(story, id, "Who put it out?").await?;
    let mut watcher = stack.hear(story).await?;
    let ended = watcher.end_of(&action).await?;
    Ok(match ended.payload() {
        Payload::Failed(failed) => Some(failed.class.clone()),
        _ => None,
    })
}

#[tokio::test]
async fn a_story_that_used_up_its_day_is_told_so_and_costs_nothing_more() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (_folder, file) = models(TWO_CALLS)?;
    let (worker, _log) = speaker(&stack, &file)?;
    let one = stack.story("one", Policies::default()).await?;
    let other = stack.story("other", Policies::default()).await?;
    assert_eq!(end_of(&stack, &one, "a1").await?, None);
    // What the first one did not use came back, and some calls later nothing is left: of the next day if this one ends.
    let mut last = "a1".to_owned();
    let mut end = None;
    for n in 2..16 {
        last = format!("a{n}");
        end = end_of(&stack, &one, &last).await?;
        if end.is_some() {
            break;
        }
    }
    assert_eq!(end.as_deref(), Some("budget"), "{last}");
    assert_eq!(stack.calls_for(&last.parse()?).await?, 0);
    assert_eq!(end_of(&stack, &other, "b1").await?, None);
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_worker_in_another_day_spends_todays_budget() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (_folder, file) = models(TWO_CALLS)?;
    let Some(mut tomorrow) = wrong("dialogue", "+25h")? else {
        return Ok(());
    };
    tomorrow.args(["run", "--redis", &stack.redis_url(), "--llm", stack.llm()]);
    tomorrow.args(["--model", "mock", "--models"]).arg(&file);
    let tomorrow = Process::start(tomorrow.stderr(Stdio::null()))?;
    let story = stack.story("one", Policies::default()).await?;
    let mut end = None;
    for n in 0..16 {
        end = end_of(&stack, &story, &format!("a{n}")).await?;
        if end.is_some() {
            break;
        }
    }
    assert_eq!(end.as_deref(), Some("budget"));
    assert!(tomorrow.end().await?.success());
    let (worker, _log) = speaker(&stack, &file)?;
    let end = end_of(&stack, &story, "last").await?;
    assert_eq!(end.as_deref(), Some("budget"));
    assert_eq!(stack.calls_for(&"last".parse()?).await?, 0);
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_call_whose_worker_died_is_made_again_and_paid_for_twice() -> anyhow::Result<()> {
    let slow = Options {
        between_tokens: Duration::from_millis(200),
        ..Options::default()
    };
    let stack = Stack::start(slow).await?;
    let (_folder, file) = models(TWO_CALLS)?;
    let (doomed, _log) = speaker(&stack, &file)?;
    let story = stack.story("one", Policies::default()).await?;
    let action = stack.say(&story, "a1", "Who put it out?").await?;
    stack.asked(&action, 1).await?;
    doomed.kill().await?;
    let (worker, _log) = speaker(&stack, &file)?;
    stack.audit(1).await?;
    assert_eq!(stack.calls_for(&action).await?, 2);
    // The provider may have told all that the first one asked for.
    let last = end_of(&stack, &story, "a2").await?;
    assert_eq!(last.as_deref(), Some("budget"));
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_beat_that_no_minute_has_room_for_is_told_without_those_who_joined() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::default()).await?;
    let (_folder, file) = models("models: {mock: {window: 100000, tokens_per_minute: 9000}}")?;
    let story = stack.story("one", Policies::default()).await?;
    let alone = stack.act(&story, "a1", "I wait.").await?;
    for id in ["a2", "a3", "a4"] {
        let text = "I count what the tide has left. ".repeat(320);
        stack.act(&story, id, &text).await?;
    }
    let file = file.to_string_lossy();
    let narrator = stack.worker_with(Agent::Narrator, &["--models", &file]);
    let (worker, _log) = narrator?;
    let told = stack.hear(&story).await?.end_of(&alone).await?;
    assert_eq!((told.kind(), &told.cause), ("narration", &vec![alone]));
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn limits_that_redis_refuses_to_keep_are_no_budget_that_is_used_up() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (_folder, file) = models(TWO_CALLS)?;
    stack
        .redis(&["SET", "sf:{0}:admission:queue:mock", "no queue"])
        .await?;
    let (worker, _log) = speaker(&stack, &file)?;
    let story = stack.story("one", Policies::default()).await?;
    let end = end_of(&stack, &story, "a1").await?;
    assert_eq!(end.as_deref(), Some("internal"));
    worker.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_file_of_models_that_does_not_do_ends_the_start_with_the_place() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for (yaml, says) in [
        (
            "models: {mock: {tokens_per_minute: 0}}",
            "models.mock.tokens_per_minute",
        ),
        (
            "people: {per_day: {cost: 1}}",
            "models.mock.price is missing",
        ),
        ("people: [", "does not do"),
        (
            "models: {mock: {answer: many}}",
            "does not do: line 1, `answer`: write a whole number",
        ),
        (
            "models: {mock: {at: 'http://127.0.0.1:1/v1'}}",
            "models.mock.at counts nowhere",
        ),
    ] {
        let (_folder, file) = models(yaml)?;
        let (worker, mut log) = speaker(&stack, &file)?;
        log.line(says).await?;
        assert_eq!(worker.gone().await?.code(), Some(2), "{yaml}");
    }
    stack.end().await;
    Ok(())
}
