//! A Redis that is backed up while it works, and restored elsewhere: with the commands of docs/operations.md.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, NewStory, Seen};
use futures::future::{try_join, try_join_all};
use story::{Agent, EventId, LogEntry, Policies, Seq, StoryId};
use system_tests::{Options, Redis, Servers, Stack, Watcher, action, eventually};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::command::told;

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
    let (folder, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let backup = folder.path().join("backup");
    let over = CancellationToken::new();
    let players = try_join_all(stories.iter().map(|story| play(&stack, story, &over)));
    let backs_up = backed_up(way, &stack, &stories, (&backup, &over));
    let (_, (before, after)) = try_join(players, backs_up).await?;
    drop(fleet);

    restore(way, &backup, data.path()).await?;
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
        ("NODE", url.as_ref()),
        ("DATA", stack.redis.data().as_os_str()),
        ("BACKUP", folder.as_os_str()),
    ];
    shell(&format!("backup: {way}"), &variables).await?;
    // What is there is not written over.
    let again = shell(&format!("backup: {way}"), &variables).await;
    ensure!(again.is_err(), "the backup before is gone");
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
    let url = redis.url();
    println!("{}", told(&url, &["audit"]).await?);
    println!("{}", told(&url, &["doctor"]).await?);
    // Somebody who had read it all, and who comes back.
    let mut reader = Watcher::new(bus.watch(&stories[0], None).await?);
    let end = bus.story(&stories[0]).await?.seq;
    let is_last = |seen: &Seen| matches!(seen, Seen::Event(entry) if entry.seq == end);
    reader.until("the last event", is_last).await?;
    let renewed = told(&url, &["story", "renew"]).await?;
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

async fn restore(way: &str, backup: &Path, data: &Path) -> anyhow::Result<()> {
    let variables = [("BACKUP", backup.as_os_str()), ("DATA", data.as_os_str())];
    shell(&format!("restore: {way}"), &variables).await
}

/// Slots were moved since, so that what is in a backup would not be found by where slots are now.
#[tokio::test]
async fn a_cluster_is_restored_with_the_slots_that_it_had() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut servers = Servers::cluster(folder.path()).await?;
    let bus = Bus::new(bus::Settings {
        shards: 16,
        ..bus::Settings::new(servers.url())
    })?;
    let mut stories = Vec::new();
    for number in 0..STORIES {
        let story = NewStory::new(format!("room-{number}").parse()?);
        bus.create_story(&story).await?;
        bus.publish(&action(&story.id, "a1", "I wait.", None)?)
            .await?;
        stories.push(story.id);
    }
    let before = logs(&bus, &stories).await?;
    let folder = tempfile::tempdir()?;
    let place = |node: usize| folder.path().join(node.to_string());
    let masters = servers.nodes().len() / 2;
    for (node, server) in servers.nodes().iter().enumerate() {
        if node < masters {
            let (url, backup) = (server.url(), place(node));
            let variables = [
                ("NODE", url.as_ref()),
                ("DATA", server.data().as_os_str()),
                ("BACKUP", backup.as_os_str()),
            ];
            shell("backup: aof", &variables).await?;
        } else {
            fs::create_dir(place(node))?;
        }
        fs::copy(
            server.data().join("nodes.conf"),
            place(node).join("nodes.conf"),
        )?;
    }
    // A Valkey waits for its replica at each slot: more would take it minutes.
    servers.reshard(0, 2_000).await?;
    for node in 0..2 * masters {
        servers.kill(node).await?;
    }
    for node in 0..2 * masters {
        let data = servers.nodes()[node].data();
        fs::remove_dir_all(data)?;
        fs::create_dir(data)?;
        fs::copy(place(node).join("nodes.conf"), data.join("nodes.conf"))?;
        if node < masters {
            restore("aof", &place(node), data).await?;
        }
        servers.resume(node).await?;
    }
    servers.mended().await?;
    let bus = Bus::new(bus::Settings {
        shards: 16,
        ..bus::Settings::new(servers.url())
    })?;
    let there = eventually("the cluster answers", async || {
        Ok(logs(&bus, &stories).await.ok())
    })
    .await?;
    assert_eq!(there, before);
    Ok(())
}

#[tokio::test]
async fn a_backup_that_is_missing_or_cut_off_is_no_restore() -> anyhow::Result<()> {
    let backup = tempfile::tempdir()?;
    for (way, cut) in [("aof", false), ("rdb", false), ("rdb", true)] {
        let data = tempfile::tempdir()?;
        if cut {
            // The head of a snapshot that a Redis 7 wrote.
            fs::write(backup.path().join("dump.rdb"), b"REDIS0010\xfa\tredis-ver")?;
        }
        let restored = restore(way, backup.path(), data.path()).await;
        ensure!(restored.is_err(), "{way}, cut off {cut}: it is restored");
        // A Redis that began empty would have written some.
        let begun = data.path().join("appendonlydir");
        ensure!(!begun.exists(), "{way}, cut off {cut}: it began empty");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_restored_over_what_is_there() -> anyhow::Result<()> {
    let (backup, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for folder in [backup.path(), data.path()] {
        fs::create_dir(folder.join("appendonlydir"))?;
        fs::write(
            folder.join("dump.rdb"),
            folder.as_os_str().as_encoded_bytes(),
        )?;
    }
    for way in ["aof", "rdb"] {
        let restored = restore(way, backup.path(), data.path()).await;
        ensure!(restored.is_err(), "{way}: it is restored");
        let kept = fs::read(data.path().join("dump.rdb"))?;
        assert_eq!(kept, data.path().as_os_str().as_encoded_bytes(), "{way}");
    }
    Ok(())
}

/// Does what the document has in the block that begins with this comment, as it is: where it needs `set -e` it says so.
async fn shell(name: &str, variables: &[(&str, &std::ffi::OsStr)]) -> anyhow::Result<()> {
    let begin = format!("# {name}\n");
    let (_, block) = DOCUMENT
        .split_once(&begin)
        .with_context(|| name.to_owned())?;
    let (block, _) = block.split_once("```").context("a block ends")?;
    let mut command = Command::new("sh");
    command.args(["-uc", block]).envs(variables.iter().copied());
    let ended = command.stdin(Stdio::null()).output().await?;
    ensure!(ended.status.success(), "{name}: {ended:?}");
    Ok(())
}
