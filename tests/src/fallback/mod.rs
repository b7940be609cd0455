//! The run of the fallback: many workers, a model that fails in every way, and another one that does not.

mod report;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use bus::{Bus, Seen, Settings, Watch};
use clap::Args;
use futures::future::try_join_all;
use serde::Serialize;
use story::{Agent, EventId, Payload, StoryId, outcome};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::chaos::CHARACTER;
use crate::ordeal::{Stage, keep, share, stories};
use crate::{Build, Model, Process, action};

pub use report::Report;

/// What the first model does in the place of an answer.
const FAULTS: &str = "no_first_token, stall(3), cut(3), eof(3), html_answer, broken_json, error_503, rate_limit_ms(500), rate_limit_text";

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
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub lines: u32,
    /// Of a hundred requests, how many the first model fails
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub faults: u32,
}

/// What came of a story's lines.
#[derive(Default)]
struct Played {
    answered: u32,
    failed: u32,
    /// Answers that began anew after readers had seen some of them.
    resets: u32,
    /// Answers of which readers had seen what is not in them.
    spliced: u32,
    longest: Duration,
}

/// Runs it. `tell` is given a line now and then. What all processes wrote stays on disk when anything is wrong.
///
/// # Errors
/// When the run cannot be made, or does not come to its end; what it finds is in the report.
pub async fn run(plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-fallback-")?;
    let ran = run_in(folder.path(), plan, tell).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(folder: &Path, plan: Plan, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let stories = stories(plan.stories)?;
    let stage = Stage::set(folder, 1, &stories, CHARACTER).await?;
    let rate = f64::from(plan.faults) / 100.0;
    let fails = format!("chaos: {{rate: {rate}, faults: [{FAULTS}]}}");
    let (first, second) = (
        Model::start(&fails, &["--itl", "5ms"]).await?,
        Model::start("", &["--itl", "5ms"]).await?,
    );
    let workers = workers(folder, plan, &stage.settings, [&first, &second])?;
    tell(&format!("{} lines in {} stories", plan.lines, plan.stories));
    let began = Instant::now();
    let each = stories
        .iter()
        .enumerate()
        .map(|(at, (story, _))| play(&stage.bus, story, share(plan.lines, stories.len(), at)));
    let played = try_join_all(each).await?;
    let took = began.elapsed();
    let requests = [first.requests().await?, second.requests().await?];
    let faults = first.faults().await?;
    for worker in workers {
        worker.end().await?;
    }
    first.end().await?;
    second.end().await?;
    Ok(Report::new(plan, &played, took, (requests, faults)))
}

fn workers(
    folder: &Path,
    plan: Plan,
    settings: &Settings,
    [first, second]: [&Model; 2],
) -> anyhow::Result<Vec<Process>> {
    let models = folder.join("models.yaml");
    let yaml = format!(
        "models: {{mock: {{then: [other]}}, other: {{at: '{}'}}}}",
        second.url()
    );
    std::fs::write(&models, yaml)?;
    let build = Build::current()?;
    let start = |n| {
        let log = File::create(folder.join(format!("worker-{n}.log")))?;
        let mut command = build.worker(Agent::Dialogue, &settings.url, first.url())?;
        command.arg("--models").arg(&models).stderr(log);
        command.args([
            "--llm-first-token-timeout",
            "2s",
            "--llm-stall-timeout",
            "2s",
        ]);
        Process::start(&mut command)
    };
    (0..plan.workers).map(start).collect()
}

/// Says one line after the other, each when the one before has its end.
async fn play(bus: &Bus, story: &StoryId, lines: usize) -> anyhow::Result<Played> {
    let mut watch = bus.watch(story, None).await?;
    let mut played = Played::default();
    for n in 0..lines {
        let to = Some(CHARACTER.to_owned());
        let line = action(story, &format!("l{n}"), "What do you see there?", to)?;
        let said = Instant::now();
        bus.publish(&line).await?;
        watched(&mut watch, &line.id, &mut played).await?;
        played.longest = played.longest.max(said.elapsed());
    }
    Ok(played)
}

/// Reads as a reader does, until the line has its end.
async fn watched(watch: &mut Watch, line: &EventId, played: &mut Played) -> anyhow::Result<()> {
    let mut drafts: HashMap<EventId, String> = HashMap::new();
    loop {
        match watch.next().await? {
            Seen::Delta { re, text, .. } => drafts.entry(re).or_default().push_str(&text),
            Seen::Snapshot { re, text, .. } => {
                drafts.insert(re, text);
            }
            Seen::Reset { re, .. } => {
                played.resets += 1;
                drafts.remove(&re);
            }
            Seen::Event(entry) => {
                let event = &entry.event;
                if !outcome(event).is_some_and(|(_, ended)| ended.contains(line)) {
                    continue;
                }
                match event.payload() {
                    Payload::Dialogue(told) => {
                        let seen = drafts.remove(&event.id).unwrap_or_default();
                        played.spliced += u32::from(!told.text.starts_with(&seen));
                        played.answered += 1;
                    }
                    _ => played.failed += 1,
                }
                return Ok(());
            }
            Seen::Gap => {}
        }
    }
}
