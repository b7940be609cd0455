//! The failover run: a fleet of all agents under load on a cluster or under sentinels, whose master dies or freezes; then an
//! exact account of what was confirmed, what of it is there, and how long people waited.

mod load;
mod report;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, StoryPatch};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};
use story::{Agent, InputPolicy, OutputPolicy, Policies, StoryId};
use tempfile::{NamedTempFile, TempDir};
use tokio::process::Command;
use tokio::time::Instant;

use crate::chaos::{CHARACTER, account, journal};
use crate::fleet::{Fleet, Terms};
use crate::ordeal::{begin, keep, log, rest};
use crate::redis;
use crate::wait::{DEADLINE, eventually};
use crate::{Build, Model, Servers, Signal, program};

use load::{Load, Played};
pub use report::Report;

const STORIES: usize = 8;
/// Over three masters.
const SHARDS: u16 = 16;
/// Workers of each agent.
const OF_EACH: usize = 3;
/// The moderator sees each answer, in one story before readers do, and in the next after them.
const OUTPUTS: [OutputPolicy; 2] = [OutputPolicy::Hold, OutputPolicy::Retract];
/// Answers of the narrator, and of the character, in each story before and after each thing that happens.
const STEADY: usize = 5;
/// A replica that is well is behind by less.
const LAG: Duration = Duration::from_millis(100);
/// Slots that are moved at the end, where there are any: the first that the master had, with two of its stories.
const SLOTS: u32 = 300;

/// What watches over the master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// Three masters, each with a replica
    #[default]
    Cluster,
    /// One master, its replica, three sentinels
    Sentinel,
}

/// What happens to the master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Blow {
    /// It is killed (SIGKILL), and started again once the replica has taken over
    #[default]
    Kill,
    /// It freezes (SIGSTOP): it takes connections and says nothing; it thaws once the replica has taken over
    Freeze,
    /// It is killed when its replica has been cut off and frozen for a while
    Lag,
}

/// What is tried.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Trial {
    pub topology: Topology,
    pub blow: Blow,
    /// What publishers and workers wait for.
    pub wait_replicas: u32,
    /// The longest that people may be kept waiting, beyond the failover itself.
    #[serde(skip)]
    pub patience: Duration,
}

/// What happened.
struct Blown {
    /// The place of the replica that took over.
    heir: usize,
    /// What its master had,
    stories: BTreeSet<StoryId>,
    /// and it may not: what was confirmed from the one time on, until it was known to be master itself.
    behind: (Instant, Instant),
    failover: Duration,
}

/// Runs it. `tell` is given a line now and then. What all servers and processes wrote stays on disk when anything is wrong.
///
/// # Errors
/// When the run cannot be made, or does not come to its end; what it finds is in the report.
pub async fn run(trial: Trial, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-failover-")?;
    let ran = run_in(folder.path(), trial, tell).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(folder: &Path, trial: Trial, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let logs = folder.join("workers");
    std::fs::create_dir(&logs)?;
    let mut servers = match trial.topology {
        Topology::Cluster => Servers::cluster(folder).await?,
        Topology::Sentinel => Servers::sentinel(folder).await?,
    };
    let settings = bus::Settings {
        shards: SHARDS,
        wait_replicas: trial.wait_replicas,
        ..bus::Settings::new(servers.url())
    };
    let bus = Bus::new(settings.clone())?;
    let stories = stories()?;
    begin(&bus, &stories, CHARACTER).await?;
    replicated(&settings, &stories).await?;
    let model = Model::start("", &[]).await?;
    let mut fleet = Fleet::start(&Build::current()?, terms(&settings, &model, &logs)).await?;
    let mut load = Load::start(&settings, &stories)?;
    load.answered(STEADY).await?;
    let blown = suffer(trial.blow, &mut servers, &mut load, &tell).await?;
    if trial.topology == Topology::Cluster {
        let moved = servers.reshard(blown.heir, SLOTS).await?;
        let moved: Vec<_> = moved.iter().map(StoryId::as_str).collect();
        tell(&format!(
            "{SLOTS} slots were moved, with {}",
            moved.join(", ")
        ));
        load.answered(STEADY).await?;
    }
    let played = load.end().await?;
    redis::answers(&bus).await?;
    rest(&bus, stories.iter().map(|(id, _)| id), DEADLINE).await?;
    fleet.end().await?;
    model.end().await?;
    let mut report = Report::new(trial, blown.failover);
    let missing = missing(&settings, &played).await?;
    for (id, policies) in &stories {
        let played = played.iter().find(|story| story.id == *id);
        let played = played.context("each story is played")?;
        let entries = log(&bus, id).await?;
        let behind = blown.stories.contains(id).then_some(blown.behind);
        let kept = report.story(played, &entries, behind);
        let seq = bus.story(id).await?.seq;
        report.account(id, account::account(&[kept], *policies, (&entries, seq)));
    }
    for agent in Agent::ALL {
        report.letters(&bus.dead(agent).await?);
    }
    report.journal = journal::read(&logs)?;
    report.finish(missing, &bus.audit().await?);
    Ok(report)
}

/// Whatever people do there waits for the moderator.
fn stories() -> anyhow::Result<Vec<(StoryId, Policies)>> {
    let story = |number: usize| {
        let policies = Policies {
            input: InputPolicy::Hold,
            output: OUTPUTS[number % OUTPUTS.len()],
            ..Policies::default()
        };
        Ok((format!("s{number}").parse()?, policies))
    };
    (0..STORIES).map(story).collect()
}

/// The blow, the failover, and the old master's return.
async fn suffer(
    blow: Blow,
    servers: &mut Servers,
    load: &mut Load,
    tell: &impl Fn(&str),
) -> anyhow::Result<Blown> {
    let (old, new) = servers.pair().await?;
    let stories = servers.stories(old).await?;
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
    let (until, failover) = (Instant::now(), at.elapsed());
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
        heir: new,
        stories,
        behind: (behind, until),
        failover,
    })
}

fn terms(settings: &bus::Settings, model: &Model, logs: &Path) -> Terms {
    let shards = settings.shards.to_string();
    let wait = settings.wait_replicas.to_string();
    let options = [
        ["--shards", &shards],
        ["--wait-replicas", &wait],
        ["--lease", "2s"],
        ["--log-filter", journal::TURNS],
    ];
    Terms {
        of_each: OF_EACH,
        redis: settings.url.clone(),
        llm: model.url().to_owned(),
        options: options
            .as_flattened()
            .iter()
            .map(ToString::to_string)
            .collect(),
        logs: logs.to_owned(),
    }
}

/// Waits until replicas follow: one that has its copy and says that its link is up is sent nothing before its first word, a
/// second later.
async fn replicated(
    settings: &bus::Settings,
    stories: &[(StoryId, Policies)],
) -> anyhow::Result<()> {
    let settings = bus::Settings {
        wait_replicas: 1,
        ..settings.clone()
    };
    eventually("the replicas follow", async || {
        let bus = Bus::new(settings.clone())?;
        for (story, _) in stories {
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
