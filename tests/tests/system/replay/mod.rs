//! What was answered, gone through again by the agents' own `replay`.

mod copies;
mod faults;
mod held;
mod input;
mod kept;
mod many;
mod pace;
mod prompts;
mod shared;
mod still;
mod told;
mod workbench;

use std::path::Path;
use std::time::Duration;

use agent::Recording;
use anyhow::{Context, ensure};
use futures::TryStreamExt;
use serde_json::Value;
use story::{Agent, Event, Policies, StoryId};
use system_tests::{Options, Process, Stack, program};
use tokio::process::Command;
use tokio::time::timeout;

use crate::command::told;

const DEADLINE: Duration = Duration::from_secs(60);
/// Nobody listens there.
const NOWHERE: &str = "redis://127.0.0.1:1";
/// As JSON.
const JSON: [&str; 2] = ["--diff", "json"];

/// What `replay` told.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) code: Option<i32>,
    out: String,
    err: String,
}

impl Replayed {
    /// Each turn, then the sum of them, where they were asked for as JSON.
    fn lines(&self) -> anyhow::Result<Vec<Value>> {
        let lines = self.out.lines().map(serde_json::from_str);
        Ok(lines.collect::<Result<_, _>>()?)
    }
}

pub(crate) async fn replay(
    stack: &Stack,
    agent: Agent,
    arguments: &[&str],
) -> anyhow::Result<Replayed> {
    replay_at(&stack.redis_url(), agent, arguments).await
}

async fn replay_at(redis: &str, agent: Agent, arguments: &[&str]) -> anyhow::Result<Replayed> {
    let mut command = Command::new(program(agent.as_str())?);
    command
        .args(["replay", "--redis", redis])
        .args(arguments)
        .env_remove("LLM_URL")
        .env_remove("STORYFLEET_PROMPTS")
        .kill_on_drop(true);
    let ended = timeout(DEADLINE, command.output()).await;
    let ended = ended.with_context(|| format!("the {agent}'s {arguments:?} does not end"))??;
    Ok(Replayed {
        code: ended.status.code(),
        out: String::from_utf8(ended.stdout)?,
        err: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// Has all turns of the story gone through again by the agents that went through them: they go as they went. Gives them.
async fn exactly(stack: &Stack, story: &StoryId) -> anyhow::Result<Vec<Recording<'static>>> {
    let turns = turns(stack, story).await?;
    ensure!(!turns.is_empty(), "{story} has no recordings");
    for agent in Agent::ALL {
        let recorded = turns.iter().filter(|turn| turn.agent == agent).count();
        if recorded > 0 {
            let told = [&["--story", story.as_str()], &JSON[..]].concat();
            let again = replay(stack, agent, &told).await?;
            let lines = again.lines()?;
            let (sum, turns) = lines.split_last().context("a sum")?;
            let same = |turn: &Value| turn["outcome"] == "same";
            ensure!(
                again.code == Some(0) && turns.iter().all(same) && turns.len() == recorded,
                "{recorded} turns of the {agent} in {story}: {again:#?}"
            );
            ensure!(sum["outcomes"]["same"] == recorded, "{sum}");
        }
    }
    Ok(turns)
}

/// How the story's turns went, oldest first.
async fn turns(stack: &Stack, story: &StoryId) -> anyhow::Result<Vec<Recording<'static>>> {
    let kept = kept(stack, story).await?;
    let turns = kept.iter().map(|kept| {
        let json = Recording::unpacked(&kept.bytes)?;
        Ok(Recording::read(&json)?)
    });
    turns.collect()
}

async fn kept(stack: &Stack, story: &StoryId) -> anyhow::Result<Vec<bus::Kept>> {
    Ok(stack.bus.all_recordings(story).try_collect().await?)
}

/// The story `castle`, where the narrator answered one action, and nobody is at work any more.
async fn answered(options: Options) -> anyhow::Result<(Stack, StoryId)> {
    castle(options, &["a1"]).await
}

/// The same with these actions, one after the other.
async fn castle(options: Options, actions: &[&str]) -> anyhow::Result<(Stack, StoryId)> {
    let stack = Stack::start(options).await?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let narrator = stack.worker(Agent::Narrator)?;
    for id in actions {
        let action = stack.act(&story, id, "I open the door.").await?;
        reader.end_of(&action).await?;
    }
    end([narrator]).await?;
    Ok((stack, story))
}

/// Writes what there is of the story to a file.
async fn export(stack: &Stack, story: &StoryId, to: &Path) -> anyhow::Result<()> {
    let export = ["export", "--story", story.as_str()];
    std::fs::write(to, told(&stack.redis_url(), &export).await?)?;
    Ok(())
}

/// Each key with a digest of its bytes, and whether it ends by itself.
async fn keys(stack: &Stack) -> anyhow::Result<Vec<String>> {
    const SCRIPT: &str = "
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local ends = redis.call('PTTL', key) >= 0 and ' ends' or ''
  all[#all + 1] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)) .. ends
end
table.sort(all)
return redis.status_reply(table.concat(all, ';'))";
    let words = ["EVAL", SCRIPT, "0"].map(str::as_bytes);
    let reply = stack.redis.command(&words).await?;
    let reply = reply.trim_start_matches('+');
    Ok(reply.split(';').map(str::to_owned).collect())
}

async fn end(workers: impl IntoIterator<Item = Process>) -> anyhow::Result<()> {
    for worker in workers {
        let ended = worker.end().await?;
        ensure!(ended.success(), "a worker ended with {ended}");
    }
    Ok(())
}

/// How an action ended, in a word or two.
fn how(end: &Event) -> String {
    let payload = serde_json::to_value(end).unwrap_or_default();
    let more = ["status", "class", "tier"].map(|field| payload[field].as_str());
    let more = more.into_iter().flatten().next();
    format!("{} {}", end.kind(), more.unwrap_or_default())
}
