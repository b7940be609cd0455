//! The stage of a system test and its verbs.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bus::{Bus, NewStory, Seen, Watch};
use story::{
    Action, Agent, Author, AuthorKind, Character, Event, EventId, Mode, Payload, Policies, StoryId,
    outcome,
};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::redis::{self, Redis};
use crate::{Process, program};

/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How the mock model plays its part.
#[derive(Debug, Default)]
pub struct Options {
    /// YAML of the mock's rules; empty: it answers as asked.
    pub scenario: &'static str,
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

    /// A worker process of `agent`, its lease 1 s.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, agent: Agent) -> anyhow::Result<Process> {
        let mut command = Command::new(program(agent.as_str())?);
        command
            .args(["run", "--redis", &self.redis.url(), "--llm", &self.llm])
            .args(["--model", "mock", "--lease", "1s"]);
        Process::start(&mut command)
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
        let id: EventId = id.parse()?;
        let event = Event::new(
            id.clone(),
            story.clone(),
            mira,
            Payload::Action(action),
            jiff::Timestamp::now(),
        );
        self.bus.publish(&event).await?;
        Ok(id)
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

    /// Waits until nothing is in flight, then asks for a clean audit in which `answered` actions were answered.
    ///
    /// # Errors
    /// When it is not clean.
    pub async fn audit(&self, answered: u64) -> anyhow::Result<()> {
        let idle = async {
            while self.bus.audit().await?.in_flight > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(DEADLINE, idle)
            .await
            .context("the fleet does not come to rest")??;
        let audit = self.bus.audit().await?;
        ensure!(audit.is_clean(), "the audit is not clean: {audit:?}");
        ensure!(
            audit.answered == answered,
            "{answered} were to be answered: {audit:?}"
        );
        Ok(())
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
        let ends =
            |event: &Event| outcome(event).is_some_and(|(_, causes)| causes.contains(action));
        let known = self.events().find(|event| ends(event)).cloned();
        if let Some(event) = known {
            return Ok(event);
        }
        let wanted = |seen: &Seen| matches!(seen, Seen::Event(entry) if ends(&entry.event));
        match self.until(&format!("the end of {action}"), wanted).await? {
            Seen::Event(entry) => Ok(entry.event),
            other => bail!("{other:?} is no event"),
        }
    }

    /// The events seen so far, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().filter_map(|seen| match seen {
            Seen::Event(entry) => Some(&entry.event),
            _ => None,
        })
    }
}
