//! The run of the limits: many workers and one model that refuses what is beyond its tokens a minute.

mod report;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Seen, Settings, Watch};
use clap::Args;
use futures::future::try_join_all;
use serde::Serialize;
use serde_json::Value;
use story::{Agent, Event, EventId, Payload, StoryId, outcome};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::chaos::CHARACTER;
use crate::ordeal::{Stage, keep, share, stories};
use crate::{Build, Model, Process, action};

pub use report::Report;

/// What is tried.
#[derive(Debug, Clone, Copy, Serialize, Args)]
pub struct Plan {
    /// Processes that answer
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub workers: u32,
    /// Stories, in each of which one line at a time waits for its answer
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub stories: u32,
    /// Lines that are said, over all stories
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lines: u32,
    /// What the model grants
    #[arg(long, default_value_t = 6_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..))]
    pub tokens_per_minute: u32,
}

/// What came of a story's lines.
struct Played {
    answered: u32,
    failed: u32,
    tokens: u64,
    /// Of each line, from when it was said.
    waits: Vec<Duration>,
}

/// Runs it. `tell` is given a line now and then. What all processes wrote stays on disk when anything is wrong.
///
/// # Errors
/// When the run cannot be made, or does not come to its end; what it finds is in the report.
pub async fn run(plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-limits-")?;
    let ran = run_in(folder.path(), plan, tell).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(folder: &Path, plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let stories = stories(plan.stories)?;
    let stage = Stage::set(folder, 1, &stories, CHARACTER).await?;
    // The strictest: whatever minute a provider counts is one of these.
    let grants = format!(
        "limits: {{tokens: {}, minute: sliding}}",
        plan.tokens_per_minute
    );
    let model = Model::start(&grants, &[]).await?;
    let workers = workers(folder, plan, &stage.settings, model.url())?;
    tell(&format!("{} lines in {} stories", plan.lines, plan.stories));
    let began = Instant::now();
    let each = stories
        .iter()
        .enumerate()
        .map(|(at, (story, _))| play(&stage.bus, story, share(plan.lines, stories.len(), at)));
    let played = try_join_all(each).await?;
    let took = began.elapsed();
    let refused = refused(&model).await?;
    for worker in workers {
        worker.end().await?;
    }
    model.end().await?;
    Ok(Report::new(plan, &played, took, refused))
}

fn workers(
    folder: &Path,
    plan: Plan,
    settings: &Settings,
    llm: &str,
) -> anyhow::Result<Vec<Process>> {
    let models = folder.join("models.yaml");
    let limit = plan.tokens_per_minute;
    // Longer than all of it may take: every line waits as long as it must.
    let yaml = format!("wait: 24h\nmodels: {{mock: {{tokens_per_minute: {limit}}}}}");
    std::fs::write(&models, yaml)?;
    let build = Build::current()?;
    let start = |n| {
        let log = File::create(folder.join(format!("worker-{n}.log")))?;
        let mut command = build.worker(Agent::Dialogue, &settings.url, llm)?;
        command.arg("--models").arg(&models).stderr(log);
        Process::start(&mut command)
    };
    (0..plan.workers).map(start).collect()
}

/// Says one line after the other, each when the one before has its end.
async fn play(bus: &Bus, story: &StoryId, lines: usize) -> anyhow::Result<Played> {
    let mut watch = bus.watch(story, None).await?;
    let mut played = Played {
        answered: 0,
        failed: 0,
        tokens: 0,
        waits: Vec::with_capacity(lines),
    };
    for n in 0..lines {
        let to = Some(CHARACTER.to_owned());
        let line = action(story, &format!("l{n}"), "What do you see there?", to)?;
        let said = Instant::now();
        bus.publish(&line).await?;
        let end = end_of(&mut watch, &line.id).await?;
        played.waits.push(said.elapsed());
        match end.payload() {
            Payload::Dialogue(told) => {
                let spent = told.llm.as_ref().context("what it cost")?;
                played.answered += 1;
                played.tokens += spent.tokens_in + spent.tokens_out;
            }
            _ => played.failed += 1,
        }
    }
    Ok(played)
}

/// However long it takes: that is what is measured.
async fn end_of(watch: &mut Watch, line: &EventId) -> anyhow::Result<Event> {
    loop {
        if let Seen::Event(entry) = watch.next().await?
            && outcome(&entry.event).is_some_and(|(_, ended)| ended.contains(line))
        {
            return Ok(entry.event);
        }
    }
}

/// How many requests the model refused for their number or their tokens.
async fn refused(model: &Model) -> anyhow::Result<u64> {
    let admin = model.url().replace("/v1", "/admin");
    let report: Value = reqwest::get(format!("{admin}/calls?limit=0"))
        .await?
        .json()
        .await?;
    let refused = report["overshoot"]["requests"].as_u64();
    refused.context("the model tells what it refused")
}
