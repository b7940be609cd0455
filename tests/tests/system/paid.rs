//! An answer is paid for once, though the worker that bought it died before it could commit it.

use story::{Agent, Policies};
use system_tests::{Options, Relay, Stack};

/// Workers killed between the end of their text and their commit.
const KILLS: usize = 5;

/// The SHA-1 by which commit.lua is run.
async fn commit(stack: &Stack) -> anyhow::Result<String> {
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

#[tokio::test]
async fn a_worker_that_dies_before_its_commit_leaves_what_it_paid_for() -> anyhow::Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let (commit, relay) = (
        commit(&stack).await?,
        Relay::before(&stack.redis_url()).await?,
    );
    assert_eq!(commit.len(), 40, "{commit}");
    let mut actions = Vec::new();
    for n in 0..KILLS {
        let story = stack.story(&format!("s{n}"), Policies::default()).await?;
        relay.bar(&commit);
        let doomed = stack.worker_on(Agent::Narrator, &relay.url())?;
        let action = stack
            .act(&story, &format!("a{n}"), "I light the lamp")
            .await?;
        relay.barred(n + 1).await?;
        doomed.kill().await?;
        relay.mend();
        let heir = stack.worker(Agent::Narrator)?;
        let mut watcher = stack.hear(&story).await?;
        watcher.until_kind("narration").await?;
        heir.end().await?;
        actions.push(action);
    }
    for action in &actions {
        assert_eq!(stack.calls_for(action).await?, 1, "{action}");
    }
    stack.end().await;
    Ok(())
}
