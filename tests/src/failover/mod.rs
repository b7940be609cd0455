//! The failover run: a fleet under load on a cluster or under sentinels, whose master dies or freezes; then an exact account
//! of what was confirmed, what of it is there, and how long people waited.

mod load;
mod report;

use anyhow::ensure;
use bus::{Bus, NewStory};
use clap::ValueEnum;
use serde::Serialize;
use story::{Agent, Policies, StoryId};
use tokio::process::Command;
use tokio::time::Instant;

use crate::chaos::account;
use crate::ordeal::log;
use crate::redis;
use crate::wait::eventually;
use crate::{Model, Process, Servers, Signal, program};

use load::Load;
pub use report::Report;

const STORIES: usize = 8;
/// Over three masters.
const SHARDS: u16 = 16;
const WORKERS: usize = 3;
/// Answers of each story before and after each thing that happens.
const STEADY: usize = 5;
/// Slots that are moved at the end, where there are any.
const SLOTS: u32 = 100;

/// What watches over the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Three masters, each with a replica
    Cluster,
    /// One master, its replica, three sentinels
    Sentinel,
}

/// What happens to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Blow {
    /// It is killed (SIGKILL), and started again once the replica has taken over
    Kill,
    /// It freezes (SIGSTOP): it takes connections and says nothing; it thaws once the replica has taken over
    Freeze,
    /// It is killed while its replica has been behind for a while (SIGSTOP)
    Lag,
}

/// What is tried.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Trial {
    pub topology: Topology,
    pub blow: Blow,
    /// What publishers and workers wait for.
    pub wait_replicas: u32,
}

/// Runs it. `tell` is given a line now and then.
///
/// # Errors
/// When the run cannot be made, or does not come to its end; what it finds is in the report.
pub async fn run(trial: Trial, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let mut servers = match trial.topology {
        Topology::Cluster => Servers::cluster().await?,
        Topology::Sentinel => Servers::sentinel().await?,
    };
    let settings = bus::Settings {
        shards: SHARDS,
        wait_replicas: trial.wait_replicas,
        ..bus::Settings::new(servers.url())
    };
    let bus = Bus::new(settings.clone())?;
    let mut stories: Vec<StoryId> = Vec::new();
    for n in 0..STORIES {
        let story = NewStory::new(format!("s{n}").parse()?);
        bus.create_story(&story).await?;
        stories.push(story.id);
    }
    let model = Model::start("", &[]).await?;
    let fleet = fleet(&settings, &model)?;
    let load = Load::start(&settings, &stories)?;
    load.answered(STEADY).await?;

    let (old, new) = servers.pair().await?;
    let behind = Instant::now();
    if trial.blow == Blow::Lag {
        servers.signal(new, Signal::STOP)?;
        load.published(STEADY).await?;
    }
    let blow = Instant::now();
    match trial.blow {
        Blow::Freeze => servers.signal(old, Signal::STOP)?,
        Blow::Kill | Blow::Lag => servers.kill(old).await?,
    }
    if trial.blow == Blow::Lag {
        servers.signal(new, Signal::CONT)?;
    }
    servers.promoted(new).await?;
    let failover = blow.elapsed();
    tell(&format!("the replica took over after {failover:.1?}"));
    load.answered(STEADY).await?;
    match trial.blow {
        Blow::Freeze => servers.signal(old, Signal::CONT)?,
        Blow::Kill | Blow::Lag => servers.resume(old)?,
    }
    servers.mended().await?;
    tell("the old master is a replica");
    load.answered(STEADY).await?;
    if trial.topology == Topology::Cluster {
        servers.reshard(SLOTS).await?;
        tell(&format!("{SLOTS} slots were moved"));
        load.answered(STEADY).await?;
    }
    let played = load.end().await?;
    redis::answers(&bus).await?;
    rest(&bus, &stories).await?;
    let mut report = Report::new(trial, failover);
    for story in played {
        let entries = log(&bus, &story.id).await?;
        let kept = report.story(&story, &entries, (behind, blow));
        let account = account::account(&[kept], Policies::default(), &entries);
        report.account(&account);
    }
    report.audit = Some(bus.audit().await?);
    for worker in fleet {
        ensure!(worker.end().await?.success(), "a worker failed");
    }
    model.end().await?;
    Ok(report)
}

fn fleet(settings: &bus::Settings, model: &Model) -> anyhow::Result<Vec<Process>> {
    let shards = settings.shards.to_string();
    let wait = settings.wait_replicas.to_string();
    let worker = |_| {
        let mut narrator = Command::new(program(Agent::Narrator.as_str())?);
        narrator.args(["run", "--redis", &settings.url, "--shards", &shards]);
        narrator.args(["--wait-replicas", &wait, "--lease", "2s"]);
        narrator.args(["--llm", model.url(), "--model", "mock"]);
        narrator.env("RUST_LOG", "error");
        Process::start(&mut narrator)
    };
    (0..WORKERS).map(worker).collect()
}

async fn rest(bus: &Bus, stories: &[StoryId]) -> anyhow::Result<()> {
    eventually("the fleet comes to rest", async || {
        for story in stories {
            if !bus.is_idle(story).await? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}
