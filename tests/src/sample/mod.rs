//! A sample of what a model makes of the demo story: `make sample`. `storyfleet up` plays it with that model, all agents at
//! work and everything held until the moderator has looked; the transcript is told as Markdown, with counts of how it went.

mod counts;
mod markdown;
mod script;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, StoryPatch};
use clap::Args;
use serde_json::Value;
use story::{
    Author, AuthorKind, Choice, Event, InputPolicy, LogEntry, OutputPolicy, Payload, Policies, Seq,
    StoryId,
};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::ordeal::{self, unless_ended};
use crate::process::{Process, program};
use crate::wait::within;

pub use counts::Counts;

/// Until `up` is ready.
const READY: Duration = Duration::from_secs(60);
/// For one turn with all that comes of it.
const TURN: Duration = Duration::from_secs(600);

/// What is played.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Plan {
    /// The base URL of an OpenAI-compatible server
    #[arg(long, value_name = "URL")]
    llm: String,
    #[arg(long)]
    model: String,
    /// How many actions
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=200))]
    turns: u16,
    /// What else readers should know of the model and its server
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    /// A file (YAML) of what the model may be asked, its window among it: docs/models.md
    #[arg(long, value_name = "FILE")]
    models: Option<std::path::PathBuf>,
}

/// A story that was played.
pub struct Sample {
    story: bus::Story,
    log: Vec<LogEntry>,
    counts: Counts,
    model: String,
    note: String,
    took: Duration,
}

/// Plays the demo story; `None` when a signal ends it.
///
/// # Errors
/// When a part does not start, or a turn does not end.
pub async fn run(plan: &Plan, say: impl Fn(&str)) -> anyhow::Result<Option<Sample>> {
    let data = tempfile::tempdir()?;
    let (fleet, bus, id) = up(plan, data.path()).await?;
    let played = unless_ended(play(plan, (&bus, &id), data.path(), say)).await;
    // Whatever came: killed, it would leave its Redis behind.
    let ended = fleet.end().await;
    let played = played?;
    ensure!(ended?.success(), "storyfleet up failed");
    Ok(played)
}

async fn play(
    plan: &Plan,
    (bus, id): (&Bus, &StoryId),
    data: &Path,
    say: impl Fn(&str),
) -> anyhow::Result<Sample> {
    hold(bus, id).await?;
    let started = Instant::now();
    for number in 0..plan.turns {
        let event = next(bus, id, number).await?;
        bus.publish(&event).await?;
        within(TURN, "the turn's end", async || {
            Ok(bus.is_idle(id).await?.then_some(()))
        })
        .await?;
        say(&format!("{} of {} turns played", number + 1, plan.turns));
    }
    let took = started.elapsed();
    let story = bus.story(id).await?;
    let exported = export(data, id).await?;
    Ok(Sample {
        counts: Counts::of(&exported, &story.fence)?,
        log: ordeal::log(bus, id).await?,
        story,
        model: plan.model.clone(),
        note: plan.note.clone(),
        took,
    })
}

/// From now on the moderator looks at everything first.
async fn hold(bus: &Bus, id: &StoryId) -> anyhow::Result<()> {
    let held = Policies {
        input: InputPolicy::Hold,
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let patch = StoryPatch {
        policies: held.into(),
        ..StoryPatch::default()
    };
    bus.patch_story(id, &patch).await?;
    Ok(())
}

async fn up(plan: &Plan, data: &Path) -> anyhow::Result<(Process, Bus, StoryId)> {
    let mut command = storyfleet(data)?;
    command.args(["up", "--json", "--listen", "127.0.0.1:0"]);
    command.args(["--llm", &plan.llm, "--model", &plan.model]);
    if let Some(models) = &plan.models {
        command.arg("--models").arg(models);
    }
    let mut fleet = Process::start(command.stdout(Stdio::piped()))?;
    let ready = timeout(READY, fleet.output()?.line("\"ready\"")).await??;
    let ready: Value = serde_json::from_str(&ready)?;
    let text = |name: &str| ready[name].as_str().context("up tells its parts");
    let bus = Bus::new(bus::Settings::new(text("redis")?))?;
    Ok((fleet, bus, text("story")?.parse()?))
}

fn storyfleet(data: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(program("storyfleet")?);
    command.arg("--data").arg(data);
    for other in ["REDIS_URL", "STORYFLEET_MODELS", "STORYFLEET_PROMPTS"] {
        command.env_remove(other);
    }
    Ok(command)
}

/// What somebody does in turn `number`: what the script says, or the first choice where it says to choose and there is one.
async fn next(bus: &Bus, story: &StoryId, number: u16) -> anyhow::Result<Event> {
    let log = bus.log(story, Seq(0), usize::MAX).await;
    let offered = log?.iter().rev().find_map(offers).cloned();
    let (player, action) = script::action(number, offered.map(|choice| choice.id));
    let author = Author {
        kind: AuthorKind::User,
        id: player.to_lowercase(),
        name: player.to_owned(),
    };
    let id = format!("turn-{number}").parse()?;
    let (payload, now) = (Payload::Action(action), jiff::Timestamp::now());
    Ok(Event::new(id, story.clone(), author, payload, now))
}

fn offers(entry: &LogEntry) -> Option<&Choice> {
    match entry.event.payload() {
        Payload::Narration(narration) => narration.choices.first(),
        _ => None,
    }
}

/// The story's export, a JSON value a line.
async fn export(data: &Path, story: &StoryId) -> anyhow::Result<Vec<Value>> {
    let mut command = storyfleet(data)?;
    command.args(["export", "--story", story.as_str()]);
    let exported = command.output().await?;
    let why = String::from_utf8_lossy(&exported.stderr);
    ensure!(exported.status.success(), "the export failed: {why}");
    let text = String::from_utf8(exported.stdout)?;
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().context("an export is JSON")
}
