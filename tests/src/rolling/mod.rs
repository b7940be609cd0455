//! A deploy under load: workers of one build are replaced one by one with those of another and back, while people publish
//! and read, over a node of either build; then an exact account of what became of every action, and how long each waited.

mod plan;
mod reader;
mod report;
mod waits;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bus::Bus;
use jiff::Timestamp;
use serde::Serialize;
use story::{Agent, LogEntry, StoryId};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::chaos::plan::Plan;
use crate::chaos::publish::{self, Span};
use crate::chaos::{CHARACTER, account, journal};
use crate::edge::{Issuer, Node, Person};
use crate::fleet::{Fleet, Terms};
use crate::ordeal::{Stage, keep, log, rest};
use crate::wait::DEADLINE;
use crate::{Build, Model};

use plan::plan;
use reader::Sight;
use waits::waits;

pub use crate::fleet::Way;
pub use report::Report;

const STORIES: usize = 24;
const PUBLISHERS: usize = 3;
/// Actions in a second, of all publishers.
const RATE: u32 = 8;
/// Stories that somebody reads over each node.
const WATCHED: usize = 8;
const SHARDS: u16 = 2;
/// Workers of each agent: while one is replaced, another one takes.
const OF_EACH: usize = 2;
/// Workers of the fleet.
const WORKERS: u32 = 6;
/// An answer takes about a second, and streams all the while.
const MODEL: [&str; 6] = ["--ttft", "300ms", "--itl", "50ms", "--chunk-tokens", "8"];

/// The two builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Version {
    Old,
    New,
}

/// All workers are replaced with those of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    pub to: Version,
    pub way: Way,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {:?}, {:?}", self.to, self.way)
    }
}

/// Forth and back in order, then in a hurry.
pub const STEPS: [Step; 4] = [
    Step {
        to: Version::New,
        way: Way::Drained,
    },
    Step {
        to: Version::Old,
        way: Way::Drained,
    },
    Step {
        to: Version::New,
        way: Way::Hurried,
    },
    Step {
        to: Version::Old,
        way: Way::Hurried,
    },
];

/// What is deployed.
#[derive(Debug, Clone)]
pub struct Deploy {
    pub old: Build,
    pub new: Build,
    /// Those in order come first.
    pub steps: Vec<Step>,
    /// From one worker to the next.
    pub pace: Duration,
    /// The longest that an event may wait to be taken.
    pub wait: Duration,
    pub seed: u64,
}

/// Deploys and accounts for it. `tell` is given a line now and then. What Redis and all processes wrote stays on disk when
/// anything is wrong.
///
/// # Errors
/// When the run cannot be made; what it finds wrong is in the report.
pub async fn run(deploy: Deploy, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-rolling-")?;
    let ran = Box::pin(run_in(folder.path(), deploy, tell)).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(folder: &Path, deploy: Deploy, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let logs = folder.join("workers");
    std::fs::create_dir_all(&logs)?;
    let scene = Scene::start(folder, deploy).await?;
    let issuer = Issuer::new(folder)?;
    let nodes = scene.nodes(folder).await?;
    let mut report = Report::new(&scene.deploy);
    let (ends, readers) = scene.readers(&issuer, &nodes)?;
    let mut fleet = Fleet::start(&scene.deploy.old, scene.terms(&logs)).await?;
    let published = scene.deploy(&mut fleet, &mut report, tell).await?;
    let logs_of = scene.rest(&ends).await?;
    fleet.end().await?;
    scene.account(&mut report, &logs_of, &published).await?;
    read(&mut report, readers, &logs_of).await?;
    for node in nodes {
        let ended = node.end().await?;
        if !ended.success() {
            report.wrong.push(format!("a gateway ended with {ended}"));
        }
    }
    scene.model.end().await?;
    report.journal = journal::read(&logs)?;
    report.finish();
    Ok(report)
}

/// Each with its number and how many of its actions it published.
type Publishers = JoinSet<anyhow::Result<(usize, usize)>>;
type Readers = JoinSet<anyhow::Result<Sight>>;
/// Of each story that is read: its last event, once there will be no more.
type Ends = HashMap<StoryId, watch::Sender<Option<u64>>>;

struct Scene {
    deploy: Deploy,
    plan: Arc<Plan>,
    stage: Stage,
    model: Model,
}

impl Scene {
    async fn start(folder: &Path, deploy: Deploy) -> anyhow::Result<Self> {
        let plan = plan(&deploy)?;
        let stage = Stage::set(folder, SHARDS, &plan.stories, CHARACTER).await?;
        let seed = plan.seed.to_string();
        let model = Model::start("", &[&MODEL[..], &["--seed", &seed]].concat()).await?;
        Ok(Self {
            deploy,
            plan: Arc::new(plan),
            stage,
            model,
        })
    }

    fn terms(&self, logs: &Path) -> Terms {
        let shards = SHARDS.to_string();
        let options = ["--shards", &shards, "--log-filter", "info"];
        Terms {
            of_each: OF_EACH,
            redis: self.stage.redis.url(),
            llm: self.model.url().to_owned(),
            options: options.map(str::to_owned).to_vec(),
            logs: logs.to_owned(),
        }
    }

    /// One of each build, beside each other all the time.
    async fn nodes(&self, folder: &Path) -> anyhow::Result<[Node; 2]> {
        let (redis, shards) = (self.stage.redis.url(), SHARDS.to_string());
        let options = ["--shards", &shards];
        let node = |build: &Build| Node::start_of(build.clone(), &redis, folder, &options);
        Ok([node(&self.deploy.old).await?, node(&self.deploy.new).await?])
    }

    fn readers(&self, issuer: &Issuer, nodes: &[Node; 2]) -> anyhow::Result<(Ends, Readers)> {
        let mut addresses = [nodes[0].address(), nodes[1].address()];
        let (mut ends, mut readers) = (Ends::new(), JoinSet::new());
        for (id, _) in self
            .plan
            .watched
            .iter()
            .map(|story| &self.plan.stories[*story])
        {
            let (sender, end) = watch::channel(None);
            // One begins at each node.
            for number in 0..addresses.len() {
                let sub = format!("{id}-{number}");
                let person = Person::new(&sub, &[("*", gateway::auth::Role::Reader)]);
                let token = issuer.token(&person)?;
                readers.spawn(reader::read(addresses, token, id.clone(), end.clone()));
                addresses.reverse();
            }
            ends.insert(id.clone(), sender);
        }
        Ok((ends, readers))
    }

    /// All steps, while the publishers publish: until the last worker is replaced, however long that takes here. What
    /// each of them published, of its plan.
    async fn deploy(
        &self,
        fleet: &mut Fleet,
        report: &mut Report,
        tell: impl Fn(&str),
    ) -> anyhow::Result<[usize; PUBLISHERS]> {
        let span = Span {
            start: Instant::now(),
            end: CancellationToken::new(),
        };
        let (publishers, published) = self.publish(&span)?;
        // Something is under way when the first worker goes.
        let mut first = published.clone();
        let begun = timeout(DEADLINE, first.wait_for(|count| *count >= STORIES)).await;
        if begun.context("the load does not begin")?.is_err() {
            bail!("the load ended at once: {:?}", ended(publishers).await?);
        }
        for step in &self.deploy.steps {
            if step.way == Way::Hurried && report.hurried_from.is_none() {
                report.hurried_from = Some(Timestamp::now());
                report.paid_twice = self.paid_twice().await?;
            }
            let build = match step.to {
                Version::Old => &self.deploy.old,
                Version::New => &self.deploy.new,
            };
            fleet.replace(build, step.way, self.deploy.pace).await?;
            report.steps.push(*step);
            tell(&format!("{step}: published {}", *published.borrow()));
        }
        // Not those who are asked to end once all is over.
        report.replaced = fleet.replaced.clone();
        let all = self.plan.all().iter().sum::<usize>();
        if *published.borrow() == all {
            report
                .wrong
                .push("the load ended before the last worker was replaced".to_owned());
        }
        span.end.cancel();
        let of_each = timeout(DEADLINE, ended(publishers)).await;
        report.seconds = span.start.elapsed().as_secs_f64();
        of_each.context("a publisher does not end")?
    }

    /// Has all publishers begin; they count what they publish together.
    fn publish(&self, span: &Span) -> anyhow::Result<(Publishers, watch::Receiver<usize>)> {
        let (count, published) = watch::channel(0);
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let (plan, count, span) = (Arc::clone(&self.plan), count.clone(), span.clone());
            let bus = Bus::new(self.stage.settings.clone())?;
            publishers.spawn(async move {
                let published = publish::publish(bus, &plan, publisher, span, &count).await?;
                anyhow::Ok((publisher, published))
            });
        }
        Ok((publishers, published))
    }

    /// Events that the model was asked about more than once.
    async fn paid_twice(&self) -> anyhow::Result<u64> {
        let admin = self.model.url().replace("/v1", "/admin/calls?limit=20000");
        let calls: serde_json::Value = reqwest::get(admin).await?.json().await?;
        let rows = calls["calls"]["events"].as_array().context("rows")?;
        let twice = rows.iter().filter(|row| row["attempts"].as_u64() > Some(1));
        Ok(u64::try_from(twice.count())?)
    }

    /// Waits until no agent has anything left to do; the logs then.
    async fn rest(&self, ends: &Ends) -> anyhow::Result<HashMap<StoryId, Vec<LogEntry>>> {
        let mut logs = HashMap::new();
        for (id, _) in &self.plan.stories {
            rest(&self.stage.bus, [id], DEADLINE).await?;
            logs.insert(id.clone(), log(&self.stage.bus, id).await?);
            if let Some(end) = ends.get(id) {
                end.send_replace(Some(self.stage.bus.story(id).await?.seq.0));
            }
        }
        Ok(logs)
    }

    async fn account(
        &self,
        report: &mut Report,
        logs: &HashMap<StoryId, Vec<LogEntry>>,
        published: &[usize; PUBLISHERS],
    ) -> anyhow::Result<()> {
        for (number, (id, policies)) in self.plan.stories.iter().enumerate() {
            let published = self.plan.published(number, published);
            let seq = self.stage.bus.story(id).await?.seq;
            let account = account::account(&published, *policies, (&logs[id], seq));
            report.story(id, account, waits(&logs[id]));
        }
        for agent in Agent::ALL {
            report.letters(&self.stage.bus.dead(agent).await?);
        }
        report.handed_on_calls = self.paid_twice().await? - report.paid_twice;
        report.audited(
            &self.stage.bus.audit().await?,
            &self.stage.bus.doctor(false).await?,
        );
        Ok(())
    }
}

/// What each publisher published, once all have ended.
async fn ended(mut publishers: Publishers) -> anyhow::Result<[usize; PUBLISHERS]> {
    let mut of_each = [0; PUBLISHERS];
    while let Some(ended) = publishers.join_next().await {
        let (publisher, published) = ended??;
        of_each[publisher] = published;
    }
    Ok(of_each)
}

async fn read(
    report: &mut Report,
    mut readers: Readers,
    logs: &HashMap<StoryId, Vec<LogEntry>>,
) -> anyhow::Result<()> {
    let mut screens = Vec::new();
    while let Some(sight) = readers.join_next().await {
        let Sight {
            story,
            screen,
            returns,
        } = sight??;
        report.sight(&story, &screen, returns, &logs[&story]);
        screens.push(screen);
    }
    let screens: Vec<_> = screens.iter().collect();
    report
        .wrong
        .extend(crate::cuts::screen::unexplained(&screens));
    Ok(())
}
