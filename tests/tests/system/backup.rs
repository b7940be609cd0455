//! A Redis that is backed up while it works, and restored elsewhere: with the commands of docs/operations.md.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, Seen};
use futures::future::{try_join, try_join_all};
use story::{Agent, EventId, LogEntry, Policies, Seq, StoryId};
use system_tests::{Options, Redis, Stack, Watcher, eventually};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::command::{run, says};

const DOCUMENT: &str = include_str!("../../../docs/operations.md");
const STORIES: usize = 6;
/// As many events, and a backup has something in it.
const BEFORE: usize = 30;

#[tokio::test]
async fn a_snapshot_made_under_load_has_all_that_was_there() -> anyhow::Result<()> {
    restored("rdb").await
}

#[tokio::test]
async fn append_only_files_copied_under_load_have_all_that_was_there() -> anyhow::Result<()> {
    restored("aof").await
}

/// The logs before a backup and after it.
type Logs = (Vec<Vec<LogEntry>>, Vec<Vec<LogEntry>>);

async fn restored(way: &str) -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(20),
        ..Options::default()
    })
    .await?;
    let mut stories = Vec::new();
    for number in 0..STORIES {
        let id = format!("room-{number}");
        stories.push(stack.story(&id, Policies::default()).await?);
    }
    let fleet = stack.fleet()?;
    let (backup, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let over = CancellationToken::new();
    let players = try_join_all(stories.iter().map(|story| play(&stack, story, &over)));
    let backs_up = backed_up(way, &stack, &stories, (backup.path(), &over));
    let (_, (before, after)) = try_join(players, backs_up).await?;
    drop(fleet);

    let port = free_port()?;
    let variables = [
        ("BACKUP", backup.path().as_os_str()),
        ("DATA", data.path().as_os_str()),
        ("PORT", port.as_ref()),
    ];
    shell(&format!("restore: {way}"), &variables).await?;
    let redis = Redis::start_in(data.path()).await?;
    let bus = Bus::new(bus::Settings::new(redis.url()))?;
    let there = logs(&bus, &stories).await?;
    for ((before, after), there) in before.iter().zip(&after).zip(&there) {
        let (least, count, most) = (before.len(), there.len(), after.len());
        ensure!(
            (least..=most).contains(&count),
            "{count} of {least} to {most}"
        );
        ensure!(there[..] == after[..count], "another history: {there:#?}");
    }
    operate(&stack, &redis, &bus, &stories).await?;
    stack.end().await;
    Ok(())
}

/// Backs up once there is something, and lets the stories go on for a while.
async fn backed_up(
    way: &str,
    stack: &Stack,
    stories: &[StoryId],
    (folder, over): (&Path, &CancellationToken),
) -> anyhow::Result<Logs> {
    let before = eventually("there is something to back up", async || {
        let logs = logs(&stack.bus, stories).await?;
        let events: usize = logs.iter().map(Vec::len).sum();
        Ok((events >= BEFORE).then_some(logs))
    })
    .await?;
    let url = stack.redis_url();
    let variables = [
        ("REDIS_URL", url.as_ref()),
        ("DATA", stack.redis.data().as_os_str()),
        ("BACKUP", folder.as_os_str()),
    ];
    shell(&format!("backup: {way}"), &variables).await?;
    let after = logs(&stack.bus, stories).await?;
    // What comes now is lost.
    eventually("the stories go on", async || {
        let now = logs(&stack.bus, stories).await?;
        let mut pairs = now.iter().zip(&after);
        Ok(pairs
            .all(|(now, then)| now.len() > then.len() + 2)
            .then_some(()))
    })
    .await?;
    over.cancel();
    Ok((before, after))
}

/// What docs/operations.md has an operator do then.
async fn operate(
    stack: &Stack,
    redis: &Redis,
    bus: &Bus,
    stories: &[StoryId],
) -> anyhow::Result<()> {
    let (nowhere, url) = (tempfile::tempdir()?, redis.url());
    let told = |command: &[&'static str]| [&["--redis", url.as_str()], command].concat();
    let audit = run(nowhere.path(), &told(&["audit"])).await?;
    let said = String::from_utf8(audit.stdout)?;
    println!("{said}");
    ensure!(audit.status.success(), "{said}");
    let doctor = says(nowhere.path(), &told(&["doctor"])).await?;
    println!("{doctor}");
    // Somebody who had read it all, and who comes back.
    let mut reader = bus.watch(&stories[0], None).await?;
    let end = bus.story(&stories[0]).await?.seq;
    while reader.cursor().seq < end {
        reader.next().await?;
    }
    let renewed = says(nowhere.path(), &told(&["story", "renew"])).await?;
    assert_eq!(renewed.lines().count(), STORIES, "{renewed}");
    let cursor = reader.cursor().clone();
    let mut again = Watcher::new(bus.watch(&stories[0], Some(cursor)).await?);
    again.until("another beginning", |_| true).await?;
    assert_eq!(again.seen, [Seen::Gap]);
    // The fleet goes on where it was.
    let fleet = Agent::ALL.map(|agent| stack.worker_on(agent, &url));
    let _fleet = fleet.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let action = system_tests::action(&stories[0], "later", "I go on.", None)?;
    bus.publish(&action).await?;
    again.end_of(&action.id).await?;
    let audit = eventually("all is answered", async || {
        let audit = bus.audit().await?;
        Ok((audit.in_flight == 0).then_some(audit))
    })
    .await?;
    assert!(audit.is_clean(), "{audit:?}");
    Ok(())
}

/// Acts and waits for the answer, again and again.
async fn play(stack: &Stack, story: &StoryId, over: &CancellationToken) -> anyhow::Result<()> {
    let mut reader = stack.hear(story).await?;
    for number in 0.. {
        if over.is_cancelled() {
            break;
        }
        let id: EventId = stack
            .act(story, &format!("{story}-{number}"), "I go on.")
            .await?;
        reader.end_of(&id).await?;
    }
    Ok(())
}

async fn logs(bus: &Bus, stories: &[StoryId]) -> anyhow::Result<Vec<Vec<LogEntry>>> {
    let logs = stories.iter().map(|story| bus.log(story, Seq(0), 1_000));
    Ok(try_join_all(logs).await?)
}

/// Does what the document has in the block that begins with this comment.
async fn shell(name: &str, variables: &[(&str, &std::ffi::OsStr)]) -> anyhow::Result<()> {
    let begin = format!("# {name}\n");
    let (_, block) = DOCUMENT
        .split_once(&begin)
        .with_context(|| name.to_owned())?;
    let (block, _) = block.split_once("```").context("a block ends")?;
    let mut command = Command::new("sh");
    command
        .args(["-euc", block])
        .envs(variables.iter().copied());
    let ended = command.stdin(Stdio::null()).output().await?;
    ensure!(ended.status.success(), "{name}: {ended:?}");
    Ok(())
}

/// For a server that is there for a moment.
fn free_port() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port().to_string())
}
