//! The chaos run: real worker processes and a real Redis that die and freeze all the time, a model that fails, people who
//! go on playing; then an exact account of what became of every action.

pub(crate) mod account;
mod ear;
mod fleet;
pub(crate) mod journal;
pub(crate) mod plan;
pub(crate) mod publish;
mod reader;
mod report;
mod secret;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use story::Agent;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;

use crate::Model;
use crate::ordeal::{Stage, keep, log, rest};
use crate::redis;

use ear::Heard;
use fleet::Fleet;
use plan::Plan;
use publish::Span;
use reader::Sight;
pub use report::Report;

pub(crate) const CHARACTER: &str = "Sibyl";
/// How long the fleet may take to finish what was published.
const REST: Duration = Duration::from_secs(180);
const TELL: Duration = Duration::from_secs(5);

/// The model fails in every way that a retry may mend, and in some that none does.
const SCENARIO: &str = r#"
chaos: {rate: 0.08}
rules:
- when: {regex: '(?s)# Now.*cursed idol'}
  reply: {fault: context_length_exceeded}
- when: {agent: narrator, probability: 0.02}
  reply: {text: "You find a card: CARD.\n@@@\n{\"choices\":[],\"speak\":[]}"}
- when: {agent: narrator, probability: 0.02}
  reply: {fault: bad_trailer}
- when: {agent: narrator, probability: 0.02}
  reply: {fault: no_trailer}
- when: {endpoint: chat, probability: 0.01}
  reply: {fault: content_filter}
- when: {agent: dialogue, probability: 0.02}
  reply: {fault: breaks_character}
"#;

/// A run in progress.
struct Run {
    plan: Arc<Plan>,
    bus: Bus,
    fleet: Fleet,
    start: Instant,
    published: watch::Receiver<usize>,
    publishers: JoinSet<anyhow::Result<usize>>,
    readers: JoinSet<anyhow::Result<Sight>>,
    ear: JoinSet<Heard>,
    /// Tells the readers and the ear that all has happened.
    over: CancellationToken,
    model: Model,
}

/// Runs the schedule of `seed` and accounts for it. `tell` is given a line now and then. What Redis and the workers wrote
/// stays on disk when anything is wrong.
///
/// # Errors
/// When the run cannot be made; what it finds wrong is in the report.
pub async fn run(seed: u64, length: Duration, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-chaos-")?;
    let ran = Box::pin(run_in(folder.path(), seed, length, tell)).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(
    folder: &Path,
    seed: u64,
    length: Duration,
    tell: impl Fn(&str),
) -> anyhow::Result<Report> {
    let plan = Arc::new(Plan::new(seed, length)?);
    let logs = folder.join("workers");
    let mut run = Run::start(plan, folder, logs.clone()).await?;
    run.suffer(&tell).await?;
    run.rest(&tell).await?;
    let mut report = run.report().await?;
    run.fleet.end().await?;
    run.model.end().await?;
    report.wrong.append(&mut run.fleet.wrong);
    report.journal = journal::read(&logs)?;
    report.finish();
    Ok(report)
}

impl Run {
    async fn start(plan: Arc<Plan>, folder: &Path, logs: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&logs)?;
        let Stage {
            redis,
            settings,
            bus,
        } = Stage::set(folder, plan.shards, &plan.stories, CHARACTER).await?;
        let model = model(plan.seed).await?;
        let (over, mut ear) = (CancellationToken::new(), JoinSet::new());
        let (heard, port, end) = (Arc::clone(&plan), redis.port(), over.clone());
        ear.spawn(async move { ear::listen(port, &heard, end).await });
        let fleet = Fleet::start(redis, model.url().to_owned(), plan.shards, logs).await?;
        let start = Instant::now();
        let span = Span {
            start,
            end: CancellationToken::new(),
        };
        let (count, published) = watch::channel(0);
        let (mut publishers, mut readers) = (JoinSet::new(), JoinSet::new());
        for publisher in 0..plan.actions.len() {
            let (plan, count, span) = (Arc::clone(&plan), count.clone(), span.clone());
            let bus = Bus::new(settings.clone())?;
            publishers
                .spawn(async move { publish::publish(bus, &plan, publisher, span, &count).await });
        }
        for story in &plan.watched {
            let story = plan.stories[*story].clone();
            let bus = Bus::new(settings.clone())?;
            readers.spawn(reader::read(bus, story, over.clone()));
        }
        Ok(Self {
            plan,
            bus,
            fleet,
            start,
            published,
            publishers,
            readers,
            ear,
            over,
            model,
        })
    }

    /// The schedule, to its last blow and its last action.
    async fn suffer(&mut self, tell: &impl Fn(&str)) -> anyhow::Result<()> {
        let plan = Arc::clone(&self.plan);
        let (bus, published) = (self.bus.clone(), self.published.clone());
        let happens = async {
            let blows = self.fleet.suffer(&plan.blows, self.start);
            let actions = async {
                while let Some(ended) = self.publishers.join_next().await {
                    ended??;
                }
                anyhow::Ok(())
            };
            tokio::try_join!(blows, actions)
        };
        tokio::select! {
            happened = happens => happened.map(|_| ()),
            told = progress(&bus, &published, tell) => told,
        }
    }

    /// Waits until no agent has anything left to do.
    async fn rest(&self, tell: &impl Fn(&str)) -> anyhow::Result<()> {
        redis::answers(&self.bus).await?;
        let stories = self.plan.stories.iter().map(|(story, _)| story);
        let idle = rest(&self.bus, stories, REST);
        tokio::select! {
            idle = idle => match idle {
                Ok(()) => Ok(()),
                Err(error) => Err(error.context(format!("{:?}", self.bus.audit().await?))),
            },
            told = progress(&self.bus, &self.published, tell) => told,
        }
    }

    async fn report(&mut self) -> anyhow::Result<Report> {
        let mut report = Report::new(&self.plan, self.start.elapsed(), self.fleet.blows);
        let mut logs = HashMap::new();
        for (number, (id, policies)) in self.plan.stories.iter().enumerate() {
            let published = self.plan.published(number, &self.plan.all());
            let entries = log(&self.bus, id).await?;
            let seq = self.bus.story(id).await?.seq;
            report.story(id, account::account(&published, *policies, (&entries, seq)));
            logs.insert(id.clone(), entries);
        }
        self.over.cancel();
        while let Some(sight) = self.readers.join_next().await {
            let mut sight = sight??;
            sight.compare(&logs[&sight.story]);
            report.sight(sight);
        }
        while let Some(heard) = self.ear.join_next().await {
            report.heard(heard?);
        }
        report.model_faults = self.model.faults().await?;
        for agent in Agent::ALL {
            report.letters(&self.bus.dead(agent).await?);
        }
        report.audited(&self.bus.audit().await?, &self.bus.doctor(false).await?);
        Ok(report)
    }
}

async fn model(seed: u64) -> anyhow::Result<Model> {
    let seed = seed.to_string();
    let options = [
        ["--seed", &seed],
        ["--ttft", "lognormal(60ms,0.7)"],
        ["--itl", "lognormal(12ms,0.5)"],
        ["--chunk-tokens", "8"],
    ];
    let scenario = SCENARIO.replace("CARD", secret::MODELS);
    Model::start(&scenario, options.as_flattened()).await
}

/// Tells how far it is, for ever.
async fn progress(
    bus: &Bus,
    published: &watch::Receiver<usize>,
    tell: &impl Fn(&str),
) -> anyhow::Result<()> {
    let mut ticks = interval_at(Instant::now() + TELL, TELL);
    loop {
        ticks.tick().await;
        let published = *published.borrow();
        match bus.audit().await {
            Ok(audit) => tell(&format!(
                "published {published}, answered {}, blocked {}, failed {}, under way {}",
                audit.answered, audit.blocked, audit.failed, audit.in_flight
            )),
            Err(bus::Error::Unreachable(_)) => {
                tell(&format!("published {published}, Redis is away"));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
