//! What it costs to give a story's text to its readers, and how late they have it. Each chunk says when it was due; a
//! reader finds that in the message.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use story::StoryId;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::client::{Client, Transport, Way};
use super::report::{Group, Row};
use super::screen::Frame;
use super::stage::{Node, Side, Stage};
use super::teller::{Teller, Telling};
use super::window::{Window, stamped, stamps};
use crate::bench::report::percentile;
use crate::bench::stage::LOOK;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) stories: usize,
    /// Of each story.
    pub(super) readers: usize,
    /// Of one rate.
    pub(super) time: Duration,
}

/// Before what is measured, at the same rate.
const WARM: Duration = Duration::from_secs(1);
/// How long the last deliveries may take.
const TAIL: Duration = Duration::from_secs(15);
const AT_ONCE: usize = 64;

/// Of the deliveries that are due, those that must be made in their time: below, the other figures are of another rate.
const KEPT: f64 = 0.98;

/// Chunks a second of each story, and what is to be reached there: CPU µs of a delivery, p99 in ms.
const RATES: [(u32, Option<f64>, Option<f64>); 2] = [(25, Some(18.0), None), (50, None, Some(5.0))];

/// Tells one story.
enum Source {
    Draft(Box<Telling>),
    /// To the bare server.
    Line(Client),
}

struct Crowd {
    window: Arc<Window>,
    readers: JoinSet<std::io::Error>,
    sources: Vec<Source>,
    side: Side,
    plan: Plan,
}

/// At one rate.
struct Figures {
    /// Deliveries a second that were made.
    reached: f64,
    /// µs of one delivery.
    cpu: f64,
    /// ms.
    p50: f64,
    p99: f64,
}

pub(super) async fn measure(stage: &Stage, plan: Plan) -> anyhow::Result<Vec<Group>> {
    let stories = stage.stories("fan", plan.stories).await?;
    let bare = side(stage, Side::Bare, &stories, plan).await?;
    let gateway = side(stage, Side::Gateway, &stories, plan).await?;
    let mut groups = Vec::new();
    for ((rate, cpu, late), (gateway, bare)) in RATES.iter().zip(gateway.iter().zip(&bare)) {
        let Plan {
            stories, readers, ..
        } = plan;
        let deliveries = f64::from(*rate) * (stories * readers) as f64;
        let name = format!(
            "{stories} stories x {readers} readers x {rate}/s: {deliveries} deliveries/s due"
        );
        let rows = [
            Row::new("deliveries made in a second", gateway.reached.round())
                .beside(bare.reached.round())
                .at_least(KEPT * deliveries),
            Row::new("CPU of a delivery, µs", gateway.cpu)
                .beside(bare.cpu)
                .at_most(*cpu),
            Row::new("due to reader, p50, ms", gateway.p50).beside(bare.p50),
            Row::new("due to reader, p99, ms", gateway.p99)
                .beside(bare.p99)
                .at_most(*late),
        ];
        groups.push(Group::new(name, rows));
    }
    Ok(groups)
}

async fn side(
    stage: &Stage,
    side: Side,
    stories: &[StoryId],
    plan: Plan,
) -> anyhow::Result<Vec<Figures>> {
    let node = stage.node(side).await?;
    let mut crowd = Crowd::gather(stage, (&node, side), stories, plan).await?;
    let mut figures = Vec::new();
    for (rate, ..) in RATES {
        figures.push(crowd.run(&node, rate).await?);
    }
    drop(crowd);
    node.end().await?;
    Ok(figures)
}

impl Crowd {
    async fn gather(
        stage: &Stage,
        (node, side): (&Node, Side),
        stories: &[StoryId],
        plan: Plan,
    ) -> anyhow::Result<Self> {
        let sources: Vec<Source> = match side {
            Side::Gateway => {
                let tellings = Teller::new(&stage.bus).begin(stories).await?;
                let drafts = tellings.into_iter().map(Box::new);
                drafts.map(Source::Draft).collect()
            }
            Side::Bare => {
                let lines = stories.iter().map(|story| {
                    let path = format!("/in/{story}");
                    async move { Client::ask(node.address, Transport::Socket, &path, "").await }
                });
                let lines = try_join_all(lines).await?;
                lines.into_iter().map(Source::Line).collect()
            }
        };
        let window = Arc::new(Window::new());
        let mut readers = JoinSet::new();
        let opened = stream::iter(0..stories.len() * plan.readers).map(async |number| {
            let story = stories[number % stories.len()].as_str();
            let (address, socket) = (node.address, Transport::Socket);
            if side == Side::Bare {
                return anyhow::Ok(Client::read_bare(address, socket, story).await?);
            }
            let token = stage.issuer.token(&format!("reader-{number}"))?;
            let way = Way {
                address,
                token: &token,
            };
            Ok(Client::read(way, socket, story, None).await?)
        });
        let mut opened = opened.buffer_unordered(AT_ONCE);
        while let Some(client) = opened.try_next().await? {
            readers.spawn(read(client, Arc::clone(&window)));
        }
        Ok(Self {
            window,
            readers,
            sources,
            side,
            plan,
        })
    }

    /// Tells all stories at this rate, and measures once that runs.
    async fn run(&mut self, node: &Node, rate: u32) -> anyhow::Result<Figures> {
        let window = &self.window;
        window.close();
        let every = Duration::from_secs(1) / rate;
        let (begin, mut tellers) = (Instant::now() + LOOK, JoinSet::new());
        let until = begin + WARM + self.plan.time + LOOK;
        for (number, source) in std::mem::take(&mut self.sources).into_iter().enumerate() {
            // Not all at the same instant.
            let phase = every.mul_f64(number as f64 / self.plan.stories as f64);
            tellers.spawn(tell(
                source,
                Arc::clone(window),
                (begin + phase, every, until),
            ));
        }
        sleep(LOOK + WARM).await;
        let before = node.usage()?.cpu;
        window.open();
        sleep(self.plan.time).await;
        window.end();
        let used = node.usage()?.cpu.saturating_sub(before);
        while let Some(ended) = tellers.join_next().await {
            self.sources.push(ended??);
        }
        let expected = window.told() * self.plan.readers as u64;
        let waits = timeout(TAIL, self.window.all(expected)).await;
        if let Some(error) = self.readers.try_join_next() {
            bail!("a reader's connection is over: {}", error?);
        }
        let mut waits = match (waits, self.side) {
            (Ok(waits), _) => waits,
            // It forgets what its readers are too slow for.
            (Err(_late), Side::Bare) => self.window.take(),
            (Err(_late), Side::Gateway) => {
                let came = self.window.take().len();
                bail!("{came} of {expected} deliveries came from the gateway")
            }
        };
        waits.sort_unstable();
        Ok(Figures {
            reached: self.window.reached(),
            cpu: used.as_secs_f64() * 1e6 / waits.len().max(1) as f64,
            p50: percentile(&waits, 0.5),
            p99: percentile(&waits, 0.99),
        })
    }
}

async fn tell(
    mut source: Source,
    window: Arc<Window>,
    (begin, every, until): (Instant, Duration, Instant),
) -> anyhow::Result<Source> {
    let mut ticks = interval_at(begin, every);
    loop {
        let due = ticks.tick().await;
        if due >= until {
            return Ok(source);
        }
        let at = window.at(due);
        let text = stamped(at);
        match &mut source {
            Source::Draft(telling) => telling.tell(&text, 4).await?,
            Source::Line(client) => {
                let message = format!(r#"{{"t":"delta","text":"{text}"}}"#);
                client.say(&message).await?;
            }
        }
        window.tell(at);
    }
}

/// Until the connection is over.
async fn read(mut client: Client, window: Arc<Window>) -> std::io::Error {
    loop {
        let message = match client.next().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        let frame: Frame<'_> = match serde_json::from_slice(message) {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        let (Some(text), "delta" | "snapshot") = (frame.text, frame.t) else {
            continue;
        };
        let now = window.now();
        for at in stamps(&text) {
            window.came(at, now);
        }
    }
}
