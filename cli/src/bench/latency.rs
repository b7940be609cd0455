//! How long an event waits for its answer at a steady rate: from the moment it was due to be published, so that a slow
//! publish counts too, to the moment a reader of the log has the answer.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::bare::AGENT;
use super::load::{self, Load};
use super::stage::{self, Model, Side, Stage};
use crate::top::metrics::Scrape;

/// Events are published this often: 200 a second.
const EVERY: Duration = Duration::from_millis(5);

/// Few enough that one reader can follow every log; many enough that no event waits for the one before it.
const STORIES: usize = 200;

const CONCURRENCY: usize = 64;

/// How long the last answers may take.
const TAIL: Duration = Duration::from_secs(10);

pub(super) struct Waits {
    /// Ascending.
    pub(super) waits: Vec<Duration>,
    /// Of the process before its first event, and when it had nothing to do any more.
    pub(super) idle_mb: [f64; 2],
    /// Of the reads of a story's context the 99th percentile, in ms; of a worker.
    pub(super) context_ms: Option<f64>,
}

pub(super) async fn measure(
    stage: &mut Stage,
    side: Side,
    model: &Model,
    events: usize,
) -> anyhow::Result<Waits> {
    let load = stage.load(side, STORIES).await?;
    stage.metrics = (side == Side::Fleet).then(free).transpose()?;
    let mut process = stage.start(side, model, CONCURRENCY)?;
    let metrics = stage.metrics.take();
    stage::ready(&load, &mut process).await?;
    let fresh = process.usage()?.rss_mb;
    // The first events make connections and scripts known; they are not counted.
    let start = Instant::now() + EVERY;
    let due = |number: usize| start + EVERY * u32::try_from(number).unwrap_or(u32::MAX);
    let warm = STORIES.min(events / 10);
    let (published, seen) = tokio::join!(
        publish(&load, warm + events, due),
        timeout_at(due(warm + events) + TAIL, follow(&load, warm + events)),
    );
    published?;
    process.must_live()?;
    let idle_mb = [fresh, process.usage()?.rss_mb];
    let context_ms = match metrics {
        Some(address) => Some(contexts(address).await?),
        None => None,
    };
    process.end().await?;
    let seen = seen.context("not every event was answered in time")??;
    let mut waits: Vec<Duration> = (warm..)
        .zip(&seen[warm..])
        .map(|(number, at)| *at - due(number))
        .collect();
    waits.sort_unstable();
    Ok(Waits {
        waits,
        idle_mb,
        context_ms,
    })
}

/// An address of this machine that nobody listens on.
fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// The 99th percentile of a worker's reads of contexts, in ms, as it tells.
async fn contexts(address: SocketAddr) -> anyhow::Result<f64> {
    let page = reqwest::get(format!("http://{address}/metrics")).await?;
    let page = Scrape::read(&page.text().await?)?;
    let reads = page.histogram("storyfleet_context_seconds", AGENT.as_str());
    let p99 = reads.and_then(|reads| reads.quantile(0.99));
    Ok(p99.context("the worker read no context")? * 1e3)
}

/// Each when it is due, whether or not earlier ones are done.
async fn publish(load: &Load, events: usize, due: impl Fn(usize) -> Instant) -> anyhow::Result<()> {
    let publishes = (0..events).map(async |number| {
        sleep_until(due(number)).await;
        anyhow::Ok(load.send(&load.event(number)?).await?)
    });
    let publishes: FuturesUnordered<_> = publishes.collect();
    publishes.try_collect().await
}

/// When the answer to each event was there.
async fn follow(load: &Load, events: usize) -> anyhow::Result<Vec<Instant>> {
    let mut tail = load.bus.tail(&load.stories);
    let (mut seen, mut missing) = (vec![None; events], events);
    while missing > 0 {
        let logged = tail.next().await?;
        let now = Instant::now();
        for cause in logged.iter().flat_map(|event| &event.cause) {
            let number: usize = load::number(cause).context("an answer to nothing")?;
            ensure!(
                seen[number].replace(now).is_none(),
                "{cause} was answered twice"
            );
            missing -= 1;
        }
    }
    Ok(seen.into_iter().flatten().collect())
}
