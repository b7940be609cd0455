//! How long an event waits for its answer at a steady rate: from the moment it was due to be published, so that a slow
//! publish counts too, to the moment a reader of the log has the answer.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::load::{self, Load};
use super::stage::{self, Model, Side, Stage};

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
}

pub(super) async fn measure(
    stage: &mut Stage,
    side: Side,
    model: &Model,
    events: usize,
) -> anyhow::Result<Waits> {
    let load = stage.load(side, STORIES).await?;
    let mut process = stage.start(side, model, CONCURRENCY)?;
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
    process.end().await?;
    let seen = seen.context("not every event was answered in time")??;
    let mut waits: Vec<Duration> = (warm..)
        .zip(&seen[warm..])
        .map(|(number, at)| *at - due(number))
        .collect();
    waits.sort_unstable();
    Ok(Waits { waits, idle_mb })
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
