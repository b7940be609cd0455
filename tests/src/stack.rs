//! The stage of a system test and its verbs.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bus::{Audit, Bus, NewStory, Seen, Watch};
use serde_json::Value;
use story::{
    Action, Agent, Author, AuthorKind, Character, Event, EventId, Mode, Payload, Policies, StoryId,
    outcome,
};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::raw;
use crate::redis::{self, Redis};
use crate::wait::{DEADLINE, eventually};
use crate::{Output, Process, Signal, program};

/// How the mock model plays its part.
#[derive(Debug, Default)]
pub struct Options {
    /// YAML of the mock's rules; empty: it answers as asked.
    pub scenario: String,
    /// Between two tokens: long enough, and an answer can be caught in the middle.
    pub between_tokens: Duration,
}

/// A Redis, a model, and the way to them.
pub struct Stack {
    pub bus: Bus,
    redis: Redis,
    llm: String,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Someone who reads a story from its beginning.
pub struct Watcher {
    watch: Watch,
    /// All that was seen.
    pub seen: Vec<Seen>,
}

impl Stack {
    /// # Errors
    /// When a part does not start.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let redis = Redis::start()?;
        let bus = Bus::new(bus::Settings::new(redis.url()))?;
        redis::answers(&bus).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let llm = format!("http://{}/v1", listener.local_addr()?);
        let mut mock = mock_llm::Options::default();
        mock.latency.between_tokens = mock_llm::Delay::Constant(options.between_tokens);
        if !options.scenario.is_empty() {
            mock.scenario = options.scenario.parse()?;
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(mock_llm::serve(listener, mock, stop.clone()));
        Ok(Self {
            bus,
            redis,
            llm,
            stop,
            tasks,
        })
    }

    #[must_use]
    pub fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// One command to Redis, behind the back of the bus.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn redis(&self, words: &[&str]) -> anyhow::Result<()> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        raw::command(self.redis.port(), &words).await?;
        Ok(())
    }

    /// Puts an entry into the work stream of `agent` behind the back of the bus.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn smuggle(&self, agent: Agent, fields: &[(&str, &[u8])]) -> anyhow::Result<()> {
        let work = format!("sf:{{0}}:work:{agent}");
        let mut words = vec![&b"XADD"[..], work.as_bytes(), b"*"];
        words.extend(
            fields
                .iter()
                .flat_map(|(name, value)| [name.as_bytes(), value]),
        );
        raw::command(self.redis.port(), &words).await?;
        Ok(())
    }

    /// The model's address, as workers are told it.
    #[must_use]
    pub fn llm(&self) -> &str {
        &self.llm
    }

    /// A worker process of `agent`, its lease 1 s.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, agent: Agent) -> anyhow::Result<Process> {
        Process::start(&mut self.command(agent)?)
    }

    /// The same with further options, and what it logs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker_with(&self, agent: Agent, options: &[&str]) -> anyhow::Result<(Process, Output)> {
        let mut command = self.command(agent)?;
        let mut process = Process::start(command.args(options).stderr(Stdio::piped()))?;
        let log = process.errors()?;
        Ok((process, log))
    }

    fn command(&self, agent: Agent) -> anyhow::Result<Command> {
        let mut command = Command::new(program(agent.as_str())?);
        command
            .args(["run", "--redis", &self.redis.url(), "--llm", &self.llm])
            .args(["--model", "mock"])
            .env("STORYFLEET_LEASE", "1s");
        Ok(command)
    }

    /// One worker of each agent.
    ///
    /// # Errors
    /// When one does not start.
    pub fn fleet(&self) -> anyhow::Result<Vec<Process>> {
        Agent::ALL
            .into_iter()
            .map(|agent| self.worker(agent))
            .collect()
    }

    /// A new story with one character, Sibyl.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn story(&self, id: &str, policies: Policies) -> anyhow::Result<StoryId> {
        let sibyl = Character {
            description: "The keeper of the lamp.".to_owned(),
            voice: "Dry.".to_owned(),
        };
        let story = NewStory {
            id: id.parse()?,
            title: "The lamp".to_owned(),
            style: String::new(),
            premise: "The lamp went out.".to_owned(),
            policies,
            characters: [("Sibyl".to_owned(), sibyl)].into(),
            lore: [].into(),
        };
        self.bus.create_story(&story).await?;
        Ok(story.id)
    }

    /// Mira does something.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn act(&self, story: &StoryId, id: &str, text: &str) -> anyhow::Result<EventId> {
        self.publish(story, id, text, None).await
    }

    /// Mira speaks to a character.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn say(&self, story: &StoryId, id: &str, text: &str) -> anyhow::Result<EventId> {
        self.publish(story, id, text, Some("Sibyl".to_owned()))
            .await
    }

    async fn publish(
        &self,
        story: &StoryId,
        id: &str,
        text: &str,
        to: Option<String>,
    ) -> anyhow::Result<EventId> {
        let event = action(story, id, text, to)?;
        self.bus.publish(&event).await?;
        Ok(event.id)
    }

    /// How often the model was asked for an answer to `event`, calls under way included.
    ///
    /// # Errors
    /// When the mock does not tell.
    pub async fn calls_for(&self, event: &EventId) -> anyhow::Result<u64> {
        let admin = self.llm.replace("/v1", "/admin");
        let report = reqwest::get(format!("{admin}/calls?event={event}")).await?;
        let report: Value = report.json().await?;
        let rows = report["calls"]["events"].as_array().context("rows")?;
        let attempts = rows.iter().filter_map(|row| row["attempts"].as_u64());
        Ok(attempts.sum())
    }

    /// Waits until the model was asked `times` for an answer to `event`.
    ///
    /// # Errors
    /// When it is not asked in time.
    pub async fn asked(&self, event: &EventId, times: u64) -> anyhow::Result<()> {
        let what = format!("call {times} for {event}");
        eventually(&what, async || {
            let calls = self.calls_for(event).await?;
            Ok((calls >= times).then_some(()))
        })
        .await
    }

    /// # Errors
    /// When there is no such story.
    pub async fn hear(&self, story: &StoryId) -> anyhow::Result<Watcher> {
        let watch = self.bus.watch(story, None).await?;
        Ok(Watcher {
            watch,
            seen: Vec::new(),
        })
    }

    /// SIGKILL to Redis.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill_redis(&mut self) -> anyhow::Result<()> {
        self.redis.kill().await
    }

    /// Starts Redis again on its data.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn resume_redis(&mut self) -> anyhow::Result<()> {
        self.redis.resume()?;
        redis::answers(&self.bus).await
    }

    /// A signal to Redis: SIGSTOP makes it a server that takes connections and says nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_redis(&self, signal: Signal) -> anyhow::Result<()> {
        self.redis.signal(signal)
    }

    /// Waits until nothing is in flight, then asks for a clean audit in which `answered` actions were answered.
    ///
    /// # Errors
    /// When it is not clean.
    pub async fn audit(&self, answered: u64) -> anyhow::Result<Audit> {
        let audit = eventually("the fleet comes to rest", async || {
            let audit = self.bus.audit().await?;
            Ok((audit.in_flight == 0).then_some(audit))
        })
        .await?;
        ensure!(audit.is_clean(), "the audit is not clean: {audit:?}");
        ensure!(
            audit.answered == answered,
            "{answered} were to be answered: {audit:?}"
        );
        Ok(audit)
    }

    /// Ends the model; Redis ends with the stack.
    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Watcher {
    /// Reads on until something is as wanted.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let search = async {
            loop {
                let seen = self.watch.next().await?;
                self.seen.push(seen.clone());
                if wanted(&seen) {
                    return anyhow::Ok(seen);
                }
            }
        };
        match timeout(DEADLINE, search).await {
            Ok(found) => found,
            Err(_) => bail!("{what} did not come; seen: {:#?}", self.seen),
        }
    }

    /// The event that ends the action.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn end_of(&mut self, action: &EventId) -> anyhow::Result<Event> {
        let known = self.events().find(|event| ends(event, action)).cloned();
        if let Some(event) = known {
            return Ok(event);
        }
        let wanted = |seen: &Seen| matches!(seen, Seen::Event(entry) if ends(&entry.event, action));
        match self.until(&format!("the end of {action}"), wanted).await? {
            Seen::Event(entry) => Ok(entry.event),
            other => bail!("{other:?} is no event"),
        }
    }

    /// How many events seen so far end the action.
    #[must_use]
    pub fn ends_of(&self, action: &EventId) -> usize {
        self.events().filter(|event| ends(event, action)).count()
    }

    /// The events seen so far, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().filter_map(|seen| match seen {
            Seen::Event(entry) => Some(&entry.event),
            _ => None,
        })
    }
}

/// What Mira does, or says to a character.
///
/// # Errors
/// When `id` is none.
pub fn action(story: &StoryId, id: &str, text: &str, to: Option<String>) -> anyhow::Result<Event> {
    let mira = Author {
        kind: AuthorKind::User,
        id: "mira".to_owned(),
        name: "Mira".to_owned(),
    };
    let action = Action {
        mode: if to.is_some() { Mode::Say } else { Mode::Do },
        text: text.to_owned(),
        to,
        choice: None,
        target: None,
    };
    Ok(Event::new(
        id.parse()?,
        story.clone(),
        mira,
        Payload::Action(action),
        jiff::Timestamp::now(),
    ))
}

fn ends(event: &Event, action: &EventId) -> bool {
    outcome(event).is_some_and(|(_, causes)| causes.contains(action))
}
