//! `once`: one event, its context from a file or from Redis, and the effects as JSON, or what would be asked. Writes nothing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use bus::Bus;
use clap::builder::ArgPredicate;
use clap::{Arg, Args, Command};
use serde::Deserialize;
use story::{Character, ContentPolicy, Context, Event, LogEntry, Policies, Seq, StoryId};

use super::explain;
use super::options::{Options, Setup};
use crate::worker::HISTORY;
use crate::{Agent, DraftSender, Turn, Window, exit};

#[derive(Debug, Args)]
// The group's name would be that of the command's own options.
#[group(skip)]
pub(super) struct Once {
    /// The event's JSON; - is stdin
    #[arg(default_value = "-")]
    event: PathBuf,
    /// Read the context of this story from Redis
    #[arg(long, value_name = "ID", conflicts_with = "context")]
    story: Option<StoryId>,
    /// Read the context from a JSON file: title, style, premise, summary, policies, characters, lore, history
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Which step of the event
    #[arg(long, default_value_t = 0)]
    part: u32,
    /// The event waits for a verdict
    #[arg(long)]
    held: bool,
    /// Ask no model: show the messages that it would be asked with, what each section has of its window's tokens, and what
    /// was left out and why. --llm and --model need not be given then
    #[arg(long)]
    explain: bool,
    /// Show that as JSON
    #[arg(long, requires = "explain")]
    json: bool,
}

/// A context as people write it down.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    title: String,
    style: String,
    premise: String,
    summary: String,
    policies: Policies,
    content: ContentPolicy,
    characters: BTreeMap<String, Character>,
    lore: BTreeMap<String, String>,
    /// Events, oldest first.
    history: Vec<Event>,
}

impl Once {
    pub(super) async fn run<A: Agent, O: Args>(
        &self,
        agent: &A,
        setup: Setup,
        options: &Options<O>,
    ) -> anyhow::Result<String> {
        let turn = self.turn(agent, setup, options).await?;
        if self.explain {
            return self.explained(agent, &turn);
        }
        let effects = agent.handle(&turn).await;
        let effects = effects.map_err(|error| anyhow!("{error}"))?;
        Ok(serde_json::to_string_pretty(&effects)?)
    }

    fn explained<A: Agent>(&self, agent: &A, turn: &Turn) -> anyhow::Result<String> {
        let asked = agent.request(turn);
        let asked = asked.map_err(|error| anyhow!("{error}"))?;
        let bounds = turn.window.as_ref().map(Window::bounds);
        let ((request, manifest), bounds) = asked.zip(bounds).with_context(|| {
            let agent = agent.agent();
            format!(
                "the {agent} asks a model only of what it has looked at: there is nothing to show"
            )
        })?;
        if self.json {
            let json = explain::as_json(&request, &manifest, bounds);
            return Ok(serde_json::to_string_pretty(&json)?);
        }
        Ok(explain::as_text(&request, &manifest, bounds))
    }

    async fn turn<A: Agent, O: Args>(
        &self,
        agent: &A,
        setup: Setup,
        options: &Options<O>,
    ) -> anyhow::Result<Turn> {
        let prompts = agent.prompts(setup.prompts.as_deref());
        let prompts = prompts.map_err(exit::configuration)?;
        let event = self.event(agent).map_err(exit::configuration)?;
        let context = match (&self.story, &self.context) {
            (Some(story), _) => stored(&Bus::new(options.bus())?, story).await?,
            (None, Some(file)) => written(file).map_err(exit::configuration)?,
            (None, None) => Context::default(),
        };
        Ok(Turn {
            agent: agent.agent(),
            // Not the clock, so that the same event gives the same effects.
            now: event.at,
            event,
            part: self.part,
            held: self.held,
            context,
            waiting: Vec::new(),
            draft: DraftSender::off(),
            llm: setup.llm,
            window: Some(Window::of(&setup.models, &setup.model)?),
            model: setup.model,
            prompts,
        })
    }

    fn event<A: Agent>(&self, agent: &A) -> anyhow::Result<Event> {
        let event = Event::decode(&self.input()?).context("the event cannot be used")?;
        if !agent.takes().contains(&event.kind()) {
            let takes = agent.takes().join(", ");
            anyhow::bail!("{} takes {takes}, not {:?}", agent.agent(), event.kind());
        }
        Ok(event)
    }

    fn input(&self) -> anyhow::Result<Vec<u8>> {
        let mut json = Vec::new();
        // One byte past the limit is enough to know that it is passed.
        let limit = u64::try_from(story::MAX_EVENT_BYTES)? + 1;
        if self.event == Path::new("-") {
            let read = std::io::stdin().lock().take(limit).read_to_end(&mut json);
            read.context("standard input cannot be read")?;
        } else {
            let file = std::fs::File::open(&self.event);
            let read = file.and_then(|file| file.take(limit).read_to_end(&mut json));
            read.with_context(|| format!("{} cannot be read", self.event.display()))?;
        }
        Ok(json)
    }
}

/// To be explained, a turn needs neither an address nor, where any window will do, a name.
pub(super) fn needs_no_model(once: Command) -> Command {
    let explained = |value: &'static str| {
        move |arg: Arg| {
            arg.required(false)
                .required_unless_present("explain")
                .default_value_if("explain", ArgPredicate::IsPresent, value)
        }
    };
    once.mut_arg("llm", explained("http://explain.invalid/v1"))
        .mut_arg("model", explained("unknown"))
}

pub(super) fn written(file: &Path) -> anyhow::Result<Context> {
    let json = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let written: Written = serde_json::from_slice(&json)
        .with_context(|| format!("{} is not a context", file.display()))?;
    let history = (1..).zip(written.history).map(|(seq, event)| LogEntry {
        seq: Seq(seq),
        event,
    });
    Ok(Context {
        history: history.collect(),
        title: written.title,
        style: written.style,
        premise: written.premise,
        summary: written.summary,
        policies: written.policies,
        content: written.content,
        characters: written.characters,
        lore: written.lore,
        fence: String::new(),
    })
}

async fn stored(bus: &Bus, id: &StoryId) -> anyhow::Result<Context> {
    let story = bus.story(id).await?;
    let after = story.seq.0.saturating_sub(u64::try_from(HISTORY)?);
    let history = bus.log(id, Seq(after), HISTORY).await?;
    Ok(story.context(history))
}
