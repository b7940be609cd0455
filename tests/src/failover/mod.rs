//! The failover run: a fleet under load on a cluster or under sentinels, whose master dies or freezes; then an exact account
//! of what was confirmed, what of it is there, and how long people waited.

mod load;
mod report;

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, NewStory, StoryPatch};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use story::{Agent, Policies, StoryId};
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::Instant;

use crate::chaos::account;
use crate::ordeal::log;
use crate::redis;
use crate::wait::eventually;
use crate::{Model, Process, Servers, Signal, program};

use load::{Load, Played};
pub use report::Report;

const STORIES: usize = 8;
/// Over three masters.
const SHARDS: u16 = 16;
const WORKERS: usize = 3;
/// Answers of each story before and after each thing that happens.
const STEADY: usize = 5;
/// A replica that is well is behind by less.
const LAG: Duration = Duration::from_millis(100);
/// Half of the time after which a master counts as dead.
const LATE: Duration = Duration::from_secs(1);
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
    /// It is killed when its replica has been cut off and frozen for a while
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

/// When it happened.
struct Blown {
    /// The replica may be behind from then on,
    behind: Instant,
    /// until then: what the old master confirmed may be heard of a little later, and the new one confirms nothing so soon.
    until: Instant,
    failover: Duration,
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
    replicated(&settings, &stories).await?;
    let model = Model::start("", &[]).await?;
    let fleet = fleet(&settings, &model)?;
    let mut load = Load::start(&settings, &stories)?;
    load.answered(STEADY).await?;
    let blown = suffer(trial.blow, &mut servers, &mut load, &tell).await?;
    if trial.topology == Topology::Cluster {
        servers.reshard(SLOTS).await?;
        tell(&format!("{SLOTS} slots were moved"));
        load.answered(STEADY).await?;
    }
    let played = load.end().await?;
    redis::answers(&bus).await?;
    rest(&bus, &stories).await?;
    for worker in fleet {
        ensure!(worker.end().await?.success(), "a worker failed");
    }
    model.end().await?;
    let mut report = Report::new(trial, blown.failover);
    report.missing = missing(&settings, &played).await?;
    for story in played {
        let entries = log(&bus, &story.id).await?;
        let kept = report.story(&story, &entries, (blown.behind, blown.until));
        let account = account::account(&[kept], Policies::default(), &entries);
        report.account(&account);
    }
    report.audit = Some(bus.audit().await?);
    Ok(report)
}

/// The blow, the failover, and the old master's return.
async fn suffer(
    blow: Blow,
    servers: &mut Servers,
    load: &mut Load,
    tell: &impl Fn(&str),
) -> anyhow::Result<Blown> {
    let (old, new) = servers.pair().await?;
    let behind = Instant::now() - LAG;
    if blow == Blow::Lag {
        servers.part(old, new).await?;
        load.published(STEADY).await?;
    }
    let at = Instant::now();
    match blow {
        Blow::Freeze => servers.signal(old, Signal::STOP)?,
        Blow::Kill => servers.kill(old).await?,
        Blow::Lag => {
            servers.kill(old).await?;
            servers.signal(new, Signal::CONT)?;
        }
    }
    servers.promoted(new).await?;
    let failover = at.elapsed();
    tell(&format!("the replica took over after {failover:.1?}"));
    load.answered(STEADY).await?;
    match blow {
        Blow::Freeze => servers.signal(old, Signal::CONT)?,
        Blow::Kill | Blow::Lag => servers.resume(old).await?,
    }
    servers.mended().await?;
    tell("the old master is a replica");
    load.answered(STEADY).await?;
    Ok(Blown {
        behind,
        until: at + LATE,
        failover,
    })
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

/// Waits until replicas follow: one that has its copy and says that its link is up is sent nothing before its first word, a
/// second later.
async fn replicated(settings: &bus::Settings, stories: &[StoryId]) -> anyhow::Result<()> {
    let settings = bus::Settings {
        wait_replicas: 1,
        ..settings.clone()
    };
    eventually("the replicas follow", async || {
        let bus = Bus::new(settings.clone())?;
        for story in stories {
            let patch = StoryPatch {
                title: Some("The lamp".to_owned()),
                ..StoryPatch::default()
            };
            bus.patch_story(story, &patch).await?;
        }
        Ok((bus.unreplicated() == 0).then_some(()))
    })
    .await
}

/// What `storyfleet audit --sent` says is gone: `story/id`.
async fn missing(settings: &bus::Settings, played: &[Played]) -> anyhow::Result<BTreeSet<String>> {
    let mut sent = NamedTempFile::new()?;
    for Played { id, done, .. } in played {
        for done in done {
            writeln!(sent, "{}", json!({"story": id, "id": done.id}))?;
        }
    }
    let shards = settings.shards.to_string();
    let mut audit = Command::new(program("storyfleet")?);
    audit.args([
        "audit",
        "--json",
        "--redis",
        &settings.url,
        "--shards",
        &shards,
    ]);
    let told = audit.arg("--sent").arg(sent.path()).output().await?;
    let told: Value = serde_json::from_slice(&told.stdout)?;
    let missing = told["sent"]["missing"].as_array().context("missing")?;
    let name = |gone: &Value| {
        Some(format!(
            "{}/{}",
            gone["story"].as_str()?,
            gone["id"].as_str()?
        ))
    };
    Ok(missing.iter().filter_map(name).collect())
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
