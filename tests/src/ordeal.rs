//! What the runs have in common: as programs, their last arguments, the signals that end them, how the report is told; the
//! Redis and the stories that they take place on, their rest, and the whole log of a story, with which they compare.

use std::fmt::{self, Display};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, NewStory};
use clap::Parser;
use serde::Serialize;
use story::{Character, LogEntry, Policies, Seq, StoryId};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::redis::{self, Redis};
use crate::wait::within;

const PAGE: usize = 500;

// Not a doc comment: clap would take it for what the program is about.
#[derive(Debug, clap::Args)]
pub struct Usual {
    /// The schedule of all that happens; not of what it hits [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Usual {
    /// The one given or a new one, which is told.
    #[must_use]
    pub fn seed(&self) -> u64 {
        let seed = self
            .seed
            .unwrap_or_else(|| rand::random_range(0..1_000_000));
        say(&format!("seed {seed}"));
        seed
    }

    /// Tells what a run found on stdout; the code says whether it is clean.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn tell(
        &self,
        report: &(impl Serialize + Display),
        is_clean: bool,
    ) -> anyhow::Result<ExitCode> {
        tell(report, is_clean, self.json)
    }
}

/// Tells what a run found on stdout; the code says whether it is clean.
///
/// # Errors
/// When nobody takes it.
pub fn tell(
    report: &(impl Serialize + Display),
    is_clean: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let text = if json {
        serde_json::to_string_pretty(report)?
    } else {
        report.to_string()
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a run found. What Redis and all processes wrote stays on disk when anything is wrong, and `kept` is told where.
///
/// # Errors
/// Those of the run, with the folder.
pub(crate) fn keep<R>(
    folder: TempDir,
    ran: anyhow::Result<R>,
    is_clean: impl Fn(&R) -> bool,
    kept: impl Fn(&mut R) -> &mut Option<PathBuf>,
) -> anyhow::Result<R> {
    if ran.as_ref().is_ok_and(is_clean) {
        return ran;
    }
    let folder = folder.keep();
    let mut report = ran.with_context(|| format!("kept: {}", folder.display()))?;
    *kept(&mut report) = Some(folder);
    Ok(report)
}

/// So many stories: s0, s1 …
pub(crate) fn stories(count: u32) -> anyhow::Result<Vec<(StoryId, Policies)>> {
    let ids = (0..count).map(|n| Ok((format!("s{n}").parse()?, Policies::default())));
    ids.collect()
}

/// How many of all lines are said in the story at this place.
pub(crate) fn share(lines: u32, stories: usize, at: usize) -> usize {
    let all = usize::try_from(lines).unwrap_or(usize::MAX);
    (all + stories - 1 - at) / stories
}

/// A report as text: what is wrong, its rows, where all is kept, and the verdict.
pub(crate) fn rows(
    f: &mut fmt::Formatter<'_>,
    wrong: &[String],
    rows: &[(&str, String)],
    kept: Option<&Path>,
    is_clean: bool,
) -> fmt::Result {
    for what in wrong {
        writeln!(f, "WRONG {what}")?;
    }
    for (name, value) in rows {
        writeln!(f, "{name:<16} {value}")?;
    }
    if let Some(kept) = kept {
        writeln!(f, "{:<16} {}", "kept", kept.display())?;
    }
    f.write_str(if is_clean { "clean" } else { "NOT CLEAN" })
}

/// A run as a program: its arguments are read, and what goes wrong is told.
pub async fn main<A: Parser>(run: impl AsyncFnOnce(&A) -> anyhow::Result<ExitCode>) -> ExitCode {
    match A::try_parse() {
        Ok(args) => run(&args)
            .await
            .unwrap_or_else(|error| exit::failed(&error)),
        Err(error) => exit::usage(&error),
    }
}

/// What comes of a run; `None` when a signal ends it. Dropping the run kills its children.
///
/// # Errors
/// Those of the run, and when no signal can be listened to.
pub async fn unless_ended<T>(
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    let (mut interrupted, mut ended, mut closed) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    tokio::select! {
        ran = run => ran.map(Some),
        _ = interrupted.recv() => Ok(None),
        _ = ended.recv() => Ok(None),
        // The terminal's end: Redis would outlive it.
        _ = closed.recv() => Ok(None),
    }
}

/// A line on the way; the report alone is on stdout.
pub fn say(line: &str) {
    // Nobody needs to listen.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Where a run takes place: a Redis whose data are in the folder of the run, and the stories on it.
pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) settings: bus::Settings,
    pub(crate) bus: Bus,
}

impl Stage {
    /// In each story is a character of this name.
    pub(crate) async fn set(
        folder: &Path,
        shards: u16,
        stories: &[(StoryId, Policies)],
        character: &str,
    ) -> anyhow::Result<Self> {
        let data = folder.join("redis");
        std::fs::create_dir_all(&data)?;
        let redis = Redis::start_in(&data).await?;
        let settings = bus::Settings {
            shards,
            ..bus::Settings::new(redis.url())
        };
        let bus = Bus::new(settings.clone())?;
        redis::answers(&bus).await?;
        begin(&bus, stories, character).await?;
        Ok(Self {
            redis,
            settings,
            bus,
        })
    }
}

/// Makes the stories, with a character of this name in each.
pub(crate) async fn begin(
    bus: &Bus,
    stories: &[(StoryId, Policies)],
    character: &str,
) -> anyhow::Result<()> {
    for (id, policies) in stories {
        let mut story = NewStory::new(id.clone());
        story.policies = *policies;
        story.characters = [(character.to_owned(), Character::default())].into();
        bus.create_story(&story).await?;
    }
    Ok(())
}

/// Waits until no agent has anything left to do in these stories. Nobody acts any more: one that is at rest stays so.
pub(crate) async fn rest(
    bus: &Bus,
    stories: impl IntoIterator<Item = &StoryId>,
    deadline: Duration,
) -> anyhow::Result<()> {
    let mut busy: Vec<_> = stories.into_iter().collect();
    within(deadline, "the fleet comes to rest", async || {
        while let Some(story) = busy.last() {
            if !bus.is_idle(story).await? {
                return Ok(None);
            }
            busy.pop();
        }
        Ok(Some(()))
    })
    .await
}

/// All of a story's log.
pub(crate) async fn log(bus: &Bus, story: &StoryId) -> anyhow::Result<Vec<LogEntry>> {
    let mut entries: Vec<LogEntry> = Vec::new();
    loop {
        let after = entries.last().map_or(Seq(0), |entry| entry.seq);
        let page = bus.log(story, after, PAGE).await?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
    }
}
