//! Redis is killed for three seconds while people act, and started again with what it had written. Nothing that was
//! accepted may be missing, and readers go on soon.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use serde_json::json;
use story::{Seq, StoryId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::report::{Group, Row};
use super::screen::Frame;
use super::stage::{START, Side, Stage};
use crate::bench::stage::LOOK;
use crate::up::redis::Folder;

const AWAY: Duration = Duration::from_secs(3);
/// Before the outage, and after it.
const AROUND: Duration = Duration::from_secs(1);
/// Between two actions of one person: as often as a socket may.
const EVERY: Duration = Duration::from_millis(60);
/// What the last answers and deliveries are given.
const TAIL: Duration = Duration::from_secs(10);
const PEOPLE: usize = 16;

/// What one person saw.
struct Person {
    story: StoryId,
    accepted: Vec<String>,
    /// Sent again since the gateway could not take it.
    again: u64,
    /// Their actions as they came back to them, and when.
    seen: Vec<(String, Instant)>,
}

/// What all of them came to.
#[derive(Default)]
struct Account {
    accepted: usize,
    again: u64,
    missing: usize,
    twice: usize,
    /// Until the last of them saw something again.
    late: Duration,
}

pub(super) async fn measure(stage: &mut Stage) -> anyhow::Result<Vec<Group>> {
    let node = stage.node(Side::Gateway).await?;
    let people = stage.people("outage", PEOPLE, &node).await?;
    let stop = CancellationToken::new();
    let acting = people
        .into_iter()
        .map(|(client, story)| Person::new(story).act(client, &stop));
    let acting = try_join_all(acting);
    let breaking = async {
        let back = outage(stage).await?;
        sleep(AROUND).await;
        stop.cancel();
        anyhow::Ok(back)
    };
    let (people, back) = tokio::try_join!(acting, breaking)?;
    node.end().await?;
    let mut account = Account::default();
    for person in &people {
        account.add(stage, person, back).await?;
    }
    let Account {
        accepted, again, ..
    } = account;
    ensure!(
        accepted > PEOPLE,
        "too few actions were accepted: {accepted}"
    );
    let rows = [
        Row::new("accepted actions missing", account.missing as f64).at_most(0.0),
        Row::new("there twice, or seen twice", account.twice as f64).at_most(0.0),
        Row::new(
            "from its return until the last reader has something, ms",
            account.late.as_secs_f64() * 1e3,
        )
        .at_most(500.0),
    ];
    let name =
        format!("Redis killed for 3 s: {accepted} actions accepted, {again} only when sent again");
    Ok(vec![Group::new(name, rows)])
}

/// Kills Redis in the midst of it; gives the moment when it answers again.
async fn outage(stage: &mut Stage) -> anyhow::Result<Instant> {
    sleep(AROUND).await;
    let gone = Instant::now();
    stage.redis.kill().await?;
    sleep_until(gone + AWAY).await;
    let folder = Folder::claim(&stage.redis_folder()).await?;
    stage.redis.again(&folder)?;
    let back = answers(&stage.redis.url).await?;
    // The first command on a connection that broke fails.
    let _is_broken = stage.bus.ping().await;
    Ok(back)
}

impl Account {
    async fn add(&mut self, stage: &Stage, person: &Person, back: Instant) -> anyhow::Result<()> {
        let log = stage.bus.log(&person.story, Seq(0), 1_000).await?;
        let mut times = HashMap::<&str, usize>::new();
        for entry in &log {
            *times.entry(entry.event.id.as_str()).or_default() += 1;
        }
        let is_missing = |id: &&String| !times.contains_key(id.as_str());
        self.missing += person.accepted.iter().filter(is_missing).count();
        self.twice += times.values().filter(|count| **count > 1).count() + person.seen_twice();
        self.accepted += person.accepted.len();
        self.again += person.again;
        let first = person.seen.iter().find(|(_, at)| *at > back);
        let (_, first) = first.context("nothing came after Redis was back")?;
        self.late = self.late.max(*first - back);
        Ok(())
    }
}

impl Person {
    fn new(story: StoryId) -> Self {
        Self {
            story,
            accepted: Vec::new(),
            again: 0,
            seen: Vec::new(),
        }
    }

    /// Acts until it is enough, and then until everything accepted was seen too.
    async fn act(mut self, mut client: Client, stop: &CancellationToken) -> anyhow::Result<Self> {
        let (mut number, mut waits) = (0, false);
        let mut ticks = interval(EVERY);
        // What was missed while Redis was away is not made up for: a socket may not.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() || waits {
            tokio::select! {
                _ = ticks.tick(), if !waits => {
                    client.say(&self.action(number)).await?;
                    waits = true;
                }
                frame = client.next() => match self.take(frame?)? {
                    Some(true) => (number, waits) = (number + 1, false),
                    // The same again: it counts once.
                    Some(false) => waits = false,
                    None => {}
                },
            }
        }
        let rest = async {
            while self.seen.len() < self.accepted.len() {
                let frame = client.next().await?;
                self.take(frame)?;
            }
            anyhow::Ok(())
        };
        timeout(TAIL, rest).await.with_context(|| {
            let (seen, accepted) = (self.seen.len(), self.accepted.len());
            format!("{seen} of {accepted} actions were seen again")
        })??;
        Ok(self)
    }

    fn action(&self, number: u64) -> String {
        let event = json!({"id": format!("a{number}"), "mode": "do", "text": "I light the lamp"});
        json!({"t": "publish", "ref": number, "story": self.story, "event": event}).to_string()
    }

    /// Whether an action was accepted, if it was answered.
    fn take(&mut self, message: &[u8]) -> anyhow::Result<Option<bool>> {
        let frame: Frame<'_> = serde_json::from_slice(message)?;
        match (frame.t, frame.id, frame.event) {
            ("ok", Some(id), _) => {
                self.accepted.push(id);
                Ok(Some(true))
            }
            ("err", ..) if frame.code.as_deref() == Some("unavailable") => {
                self.again += 1;
                Ok(Some(false))
            }
            ("err" | "bye" | "gap", ..) => {
                anyhow::bail!("somebody was told: {}", String::from_utf8_lossy(message))
            }
            ("event", _, Some(event)) => {
                self.seen.push((event.id, Instant::now()));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn seen_twice(&self) -> usize {
        let mut seen: Vec<&String> = self.seen.iter().map(|(id, _)| id).collect();
        seen.sort_unstable();
        seen.windows(2).filter(|pair| pair[0] == pair[1]).count()
    }
}

/// When a Redis that was started answers.
async fn answers(url: &str) -> anyhow::Result<Instant> {
    let address = url.strip_prefix("redis://").context("a plain address")?;
    let ping = async || {
        let mut redis = TcpStream::connect(address).await?;
        redis.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        redis.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer == *b"+PONG")
    };
    let answering = async {
        let mut looks = interval(LOOK);
        while !ping().await.unwrap_or(false) {
            looks.tick().await;
        }
        Instant::now()
    };
    timeout(START, answering)
        .await
        .context("Redis does not come back")
}
