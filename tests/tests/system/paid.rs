//! An answer is paid for once, though the worker that bought it died before it could commit it.

use story::{Agent, Policies, StoryId};
use system_tests::{Options, Relay, Stack};

/// Workers killed between the end of their text and their commit.
const KILLS: usize = 5;

/// The SHA-1 by which commit.lua is run.
pub(crate) async fn commit(stack: &Stack) -> anyhow::Result<String> {
    let code = concat!(
        include_str!("../../../shared/bus/scripts/lane.lua"),
        include_str!("../../../shared/bus/scripts/recording.lua"),
        include_str!("../../../shared/bus/scripts/commit.lua"),
    );
    // The first line of a reply is what is told of it.
    let sha = "return redis.status_reply(redis.sha1hex(ARGV[1]))";
    let words = ["EVAL", sha, "0", code].map(str::as_bytes);
    let reply = stack.redis.command(&words).await?;
    Ok(reply.trim_start_matches('+').to_owned())
}

/// Has a worker die between the end of its text and its commit, and another one answer.
async fn dies(stack: &Stack, story: &StoryId, id: &str, text: &str) -> anyhow::Result<()> {
    let relay = Relay::before(&stack.redis_url()).await?;
    relay.bar(&commit(stack).await?);
    let doomed = stack.worker_on(Agent::Narrator, &relay.url())?;
    let action = stack.act(story, id, text).await?;
    relay.barred(1).await?;
    doomed.kill().await?;
    let heir = stack.worker(Agent::Narrator)?;
    let mut watcher = stack.hear(story).await?;
    watcher.end_of(&action).await?;
    heir.end().await?;
    assert_eq!(stack.calls_for(&action).await?, 1, "{action}");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_dies_before_its_commit_leaves_what_it_paid_for() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    for n in 0..KILLS {
        let story = stack.story(&format!("s{n}"), Policies::default()).await?;
        dies(&stack, &story, &format!("a{n}"), "I light the lamp").await?;
    }
    stack.end().await;
    Ok(())
}

/// Whose prompt holds how much of it depends on what was learned of the model, and the heir has learned nothing.
#[tokio::test]
async fn a_story_that_fills_the_window_is_begun_again_as_it_was() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let story = stack.story("long", Policies::default()).await?;
    let text = "I go on along the shore, and count what the tide has left. ".repeat(60);
    let relay = Relay::before(&stack.redis_url()).await?;
    let learned = stack.worker_on(Agent::Narrator, &relay.url())?;
    let mut watcher = stack.hear(&story).await?;
    for n in 0..12 {
        let action = stack.act(&story, &format!("a{n}"), &text).await?;
        watcher.end_of(&action).await?;
    }
    relay.bar(&commit(&stack).await?);
    let action = stack.act(&story, "last", &text).await?;
    relay.barred(1).await?;
    learned.kill().await?;
    let heir = stack.worker(Agent::Narrator)?;
    watcher.end_of(&action).await?;
    assert_eq!(stack.calls_for(&action).await?, 1);
    heir.end().await?;
    stack.end().await;
    Ok(())
}
