//! Whatever dies, nothing is lost and nothing is answered twice.

use std::time::Duration;

use bus::Seen;
use story::{Agent, OutputPolicy, Policies};
use system_tests::{Options, Stack, Watcher};

/// An answer takes seconds, so that it can be caught in the middle.
const SLOW: Duration = Duration::from_millis(25);

fn slow() -> Options {
    Options {
        between_tokens: SLOW,
        ..Options::default()
    }
}

async fn the_answer_grows(reader: &mut Watcher) -> anyhow::Result<()> {
    reader
        .until("live text", |seen| matches!(seen, Seen::Delta { .. }))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_its_answer_loses_nothing() -> anyhow::Result<()> {
    let stack = Stack::start(slow()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let doomed = stack.worker(Agent::Narrator)?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    the_answer_grows(&mut reader).await?;
    doomed.kill().await?;

    let _heir = stack.worker(Agent::Narrator)?;
    reader.end_of(&action).await?;
    stack.audit(1).await?;
    assert_eq!(reader.ends_of(&action), 1);
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_zombie_writes_nothing() -> anyhow::Result<()> {
    let stack = Stack::start(slow()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let (zombie, mut log) = stack.worker_with(Agent::Narrator, &[])?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    the_answer_grows(&mut reader).await?;
    zombie.freeze()?;

    let _heir = stack.worker(Agent::Narrator)?;
    reader.end_of(&action).await?;
    zombie.thaw()?;
    // By its renewal or by its draft, whichever comes first.
    log.line("another worker").await?;
    assert!(zombie.end().await?.success());
    stack.audit(1).await?;
    let second = stack.act(&story, "a2", "I wait").await?;
    reader.end_of(&second).await?;
    assert_eq!(reader.ends_of(&action), 1);
    stack.end().await;
    Ok(())
}

/// It notices nothing before its commit: it renews too seldom, and the endpoint must see the output first, so there is no
/// draft.
#[tokio::test]
async fn a_zombie_that_wakes_up_with_its_answer_is_fenced() -> anyhow::Result<()> {
    // The heir's answer takes longer than what is left of the zombie's.
    let scenario =
        "rules:\n- when: { agent: narrator, attempt: 2 }\n  reply: { fault: slow_drip(10) }\n";
    let stack = Stack::start(Options {
        scenario: scenario.to_owned(),
        ..slow()
    })
    .await?;
    let policies = Policies {
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let story = stack.story("castle", policies).await?;
    let mut reader = stack.hear(&story).await?;
    let (zombie, mut log) =
        stack.worker_with(Agent::Narrator, &["--lease", "60s", "--tier2", "endpoint"])?;
    let action = stack.act(&story, "a1", "I open the door").await?;
    stack.asked(&action, 1).await?;
    zombie.freeze()?;

    let _heir = stack.worker(Agent::Narrator)?;
    let _others = [Agent::Moderator, Agent::Dialogue].map(|agent| stack.worker(agent));
    stack.asked(&action, 2).await?;
    zombie.thaw()?;
    log.line("result=\"fenced\"").await?;
    reader.end_of(&action).await?;
    stack.audit(1).await?;
    assert_eq!(reader.ends_of(&action), 1);
    assert!(zombie.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn redis_killed_and_started_again_loses_nothing() -> anyhow::Result<()> {
    let mut stack = Stack::start(slow()).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let _fleet = stack.fleet()?;
    let mut actions = Vec::new();
    for id in ["a1", "a2", "a3"] {
        actions.push(stack.act(&story, id, "I open the door").await?);
    }
    the_answer_grows(&mut reader).await?;
    stack.kill_redis().await?;
    stack.resume_redis().await?;

    for action in &actions {
        reader.end_of(action).await?;
        assert_eq!(reader.ends_of(action), 1);
    }
    stack.audit(3).await?;
    stack.end().await;
    Ok(())
}
