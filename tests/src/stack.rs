//! The stage of a system test and its verbs.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Audit, Bus, NewStory};
use serde_json::Value;
use story::{Agent, Character, ContentPolicy, EventId, Policies, StoryId};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

use crate::action::action;
use crate::redis::{self, Redis};
use crate::wait::{DEADLINE, eventually};
use crate::{Model, Output, Process, Signal, Watcher, worker};

/// Of the workers, unless a test says otherwise.
const LEASE: Duration = Duration::from_secs(1);

/// How the mock model plays its part.
#[derive(Debug, Default)]
pub struct Options {
    /// YAML of the mock's rules; empty: it answers as asked.
    pub scenario: String,
    /// Between two tokens: long enough, and an answer can be caught in the middle.
    pub between_tokens: Duration,
    /// How many come at once; 0: one. More than there are make one piece of each answer, as if it were not streamed.
    pub tokens: u32,
}

impl Options {
    /// A mock with these rules.
    #[must_use]
    pub fn playing(scenario: &str) -> Self {
        Self {
            scenario: scenario.to_owned(),
            ..Self::default()
        }
    }
}

/// A Redis, a model, and the way to them.
pub struct Stack {
    pub bus: Bus,
    pub redis: Redis,
    model: Model,
}

impl Stack {
    /// # Errors
    /// When a part does not start.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let redis = Redis::start(&[]).await?;
        let bus = Bus::new(bus::Settings::new(redis.url()))?;
        redis::answers(&bus).await?;
        let pause = format!("{}ms", options.between_tokens.as_millis());
        let tokens = options.tokens.max(1).to_string();
        let pace = ["--itl", &pause, "--chunk-tokens", &tokens];
        let model = Model::start(&options.scenario, &pace).await?;
        Ok(Self { bus, redis, model })
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
        self.redis.command(&words).await?;
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
        self.redis.command(&words).await?;
        Ok(())
    }

    /// The model's address, as workers are told it.
    #[must_use]
    pub fn llm(&self) -> &str {
        self.model.url()
    }

    /// A worker process of `agent`, its lease 1 s.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, agent: Agent) -> anyhow::Result<Process> {
        self.worker_on(agent, &self.redis.url())
    }

    /// The same on another Redis.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker_on(&self, agent: Agent, redis: &str) -> anyhow::Result<Process> {
        Process::start(&mut self.command_on(agent, redis)?)
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
        self.command_on(agent, &self.redis.url())
    }

    fn command_on(&self, agent: Agent, redis: &str) -> anyhow::Result<Command> {
        let mut command = worker(agent, redis, self.llm())?;
        command.env("STORYFLEET_TIER2", "off");
        command.env("STORYFLEET_LEASE", format!("{}ms", LEASE.as_millis()));
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
            content: ContentPolicy::default(),
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

    /// Sends all dead letters of `agent` again.
    ///
    /// # Errors
    /// When Redis refuses.
    pub async fn redrive_all(&self, agent: Agent) -> anyhow::Result<()> {
        for letter in self.bus.dead(agent).await? {
            self.bus.redrive(agent, &letter.id).await?;
        }
        Ok(())
    }

    /// How often the model was asked for an answer to `event`, calls under way included.
    ///
    /// # Errors
    /// When the mock does not tell.
    pub async fn calls_for(&self, event: &EventId) -> anyhow::Result<u64> {
        let admin = self.llm().replace("/v1", "/admin");
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

    /// Waits until `agent` has so many events to do.
    ///
    /// # Errors
    /// When it does not have them in time.
    pub async fn backlog(&self, agent: Agent, events: u64) -> anyhow::Result<()> {
        let what = format!("{events} events wait for the {agent}");
        eventually(&what, async || {
            let backlog = self.bus.backlog(agent).await?;
            Ok((backlog == events).then_some(()))
        })
        .await
    }

    /// # Errors
    /// When there is no such story.
    pub async fn hear(&self, story: &StoryId) -> anyhow::Result<Watcher> {
        Ok(Watcher::new(self.bus.watch(story, None).await?))
    }

    /// Waits until no event of `agent` was left alone for as long as a lease.
    ///
    /// # Errors
    /// When that does not come in time.
    pub async fn renewed(&self, agent: Agent) -> anyhow::Result<()> {
        let work = format!("sf:{{0}}:work:{agent}");
        let lease = LEASE.as_millis().to_string();
        let words = ["XPENDING", &work, "fleet", "IDLE", &lease, "-", "+", "1"];
        let words = words.map(str::as_bytes);
        eventually("leases are renewed", async || {
            Ok((self.redis.command(&words).await? == "*0").then_some(()))
        })
        .await
    }

    /// Waits where Redis is away until so many tries to connect came; nobody is answered.
    ///
    /// # Errors
    /// When they do not come in time, or Redis is there.
    pub async fn tried(&self, times: usize) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.redis.port())).await?;
        let tries = async {
            for _ in 0..times {
                listener.accept().await?;
            }
            anyhow::Ok(())
        };
        timeout(DEADLINE, tries)
            .await
            .with_context(|| format!("not {times} tries in time"))?
    }

    /// The model plays by this scenario from now on.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn plays(&self, scenario: &str) -> anyhow::Result<()> {
        let admin = self.llm().replace("/v1", "/admin");
        let asked = reqwest::Client::new().post(format!("{admin}/scenario"));
        let told = asked.body(scenario.to_owned()).send().await?;
        told.error_for_status()?;
        Ok(())
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
        self.redis.resume().await?;
        redis::answers(&self.bus).await
    }

    /// SIGKILL to the model.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill_model(&mut self) -> anyhow::Result<()> {
        self.model.kill().await
    }

    /// Starts the model again at its address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn resume_model(&mut self) -> anyhow::Result<()> {
        self.model.resume().await
    }

    /// A signal to Redis: SIGSTOP makes it a server that takes connections and says nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal_redis(&self, signal: Signal) -> anyhow::Result<()> {
        self.redis.signal(signal)
    }

    /// The model is started again at its address, and takes no key but this one.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn change_model_key(&mut self, key: &str) -> anyhow::Result<()> {
        self.model.change_key(key).await
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
    ///
    /// # Panics
    /// When the model does not end.
    pub async fn end(self) {
        let ended = self.model.end().await;
        ended.expect("the model ends when it is asked to");
    }
}
