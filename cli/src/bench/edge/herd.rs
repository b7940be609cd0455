//! All readers dropped at once: how long until they are back, and what that asks of Redis. First only their connections
//! are cut, and the clock starts with their return; then their node is killed, and it starts with the kill: another node
//! comes in its place, which knows nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::Transport;
use super::reader::{Cut, Reader, Told};
use super::report::{Group, Row};
use super::screen::word;
use super::stage::{Side, Stage};
use super::teller::{Teller, Telling};

/// Readers who connect at the same time.
const AT_ONCE: usize = 512;
const LENGTH: u64 = 1_000;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) readers: usize,
    pub(super) stories: usize,
}

pub(super) async fn measure(stage: &Stage, plan: Plan) -> anyhow::Result<Vec<Group>> {
    let node = stage.node(Side::Gateway).await?;
    let address = node.address;
    let stories = stage.stories("herd", plan.stories).await?;
    let told = Told::new(AtomicU64::new(0));
    let mut answers = Teller::new(&stage.bus).begin(&stories).await?;
    next(&mut answers, &told).await?;
    let mut readers = Vec::new();
    for number in 0..plan.readers {
        let story = stories[number % stories.len()].as_str();
        // Half WebSocket, half SSE, in each story.
        let transport = match number / stories.len() % 2 {
            0 => Transport::Socket,
            _ => Transport::Stream,
        };
        let token = stage.issuer.token(&format!("herd-{number}"))?;
        let way = (address, transport);
        readers.push(Reader::new(way, token, story, (&told, LENGTH)));
    }
    back(&mut readers).await?;

    scatter(&mut readers).await;
    next(&mut answers, &told).await?;
    let begin = Instant::now();
    let cut_asked = asked(stage, back(&mut readers)).await?;
    let cut = begin.elapsed();

    let begin = Instant::now();
    node.end().await?;
    scatter(&mut readers).await;
    next(&mut answers, &told).await?;
    let node = stage.node_at(Side::Gateway, address).await?;
    let killed_asked = asked(stage, back(&mut readers)).await?;
    let killed = begin.elapsed();

    for reader in &readers {
        let screen = &reader.screen;
        let wrong = screen.lost + screen.doubled + screen.gaps;
        ensure!(wrong == 0, "a reader did not find back: {screen:?}");
    }
    scatter(&mut readers).await;
    node.end().await?;
    let (count, stories) = (plan.readers, plan.stories as f64);
    let at_once = AT_ONCE.min(count);
    let groups = [
        ("dropped at once", cut, cut_asked),
        ("from the kill of their node on", killed, killed_asked),
    ];
    let groups = groups.map(|(how, time, commands)| {
        let rows = [
            Row::new("until all are back, s", time.as_secs_f64()).at_most(10.0),
            Row::new(
                "commands to Redis for each story",
                commands as f64 / stories,
            ),
        ];
        let name = format!(
            "{count} readers of {stories} stories, {how}, {at_once} connecting at the same time"
        );
        Group::new(name, rows)
    });
    Ok(groups.into())
}

async fn scatter(readers: &mut [Reader]) {
    for reader in readers {
        reader.cut(Cut::Reset).await;
    }
}

async fn next(answers: &mut [Telling], told: &Told) -> anyhow::Result<()> {
    let text = word(told.load(Relaxed));
    try_join_all(answers.iter_mut().map(|answer| answer.tell(&text, 1))).await?;
    told.fetch_add(1, Relaxed);
    Ok(())
}

/// All read until they have every word.
async fn back(readers: &mut [Reader]) -> anyhow::Result<()> {
    let back = stream::iter(readers).map(async |reader| {
        let told = reader.told();
        reader.read_until(told).await
    });
    back.buffer_unordered(AT_ONCE).try_collect().await
}

/// The commands that Redis does meanwhile.
async fn asked(
    stage: &Stage,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<u64> {
    let before = commands(&stage.redis.url).await?;
    work.await?;
    let after = commands(&stage.redis.url).await?;
    let since = |(name, calls): (&String, &u64)| calls - before.get(name).unwrap_or(&0);
    Ok(after.iter().map(since).sum())
}

/// The calls of each command but this one, since the server started.
async fn commands(url: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let address = url.strip_prefix("redis://").context("a plain address")?;
    let mut redis = TcpStream::connect(address).await?;
    redis.write_all(b"INFO commandstats\r\nQUIT\r\n").await?;
    let mut text = String::new();
    redis.read_to_string(&mut text).await?;
    let calls = text.lines().filter_map(|line| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let (calls, _) = figures.split_once(',')?;
        Some((name.to_owned(), calls.parse().ok()?))
    });
    let calls =
        calls.filter(|(name, _): &(String, u64)| !["info", "quit"].contains(&name.as_str()));
    Ok(calls.collect())
}
