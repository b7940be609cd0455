//! The options of the commands, each with its environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::flags::{Logs, Redis, Tier, duration, pause, word};
use crate::models::First;
use crate::recording::{Link, MadeWith};
use crate::spans::{Exporting, Traces};
use crate::worker::SHORTEST_LEASE;
use crate::{Agent, Models, Prompts, Settings, Turn, Window, key};

/// What an agent answers with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub llm: llm::Client,
    /// Where the key of `llm` is from: a running worker takes a new one from there.
    pub key_file: Option<PathBuf>,
    pub model: String,
    /// What models may be asked, and what they cost.
    pub models: Models,
    /// Replaces the embedded prompts: see [`Prompts::load`](crate::Prompts::load).
    pub prompts: Option<PathBuf>,
}

impl Setup {
    /// The files that keys are from, each with the place of its model.
    pub(crate) fn key_files(&self) -> anyhow::Result<Vec<(usize, PathBuf)>> {
        let first = self.key_file.clone().map(|file| (0, file));
        let others = self.models.key_files(&self.model)?;
        Ok(first.into_iter().chain(others).collect())
    }

    /// What may not be meant as it is, for an agent that asks with these prompts.
    pub(crate) fn doubts(&self, prompts: &Prompts) -> Vec<String> {
        let first = First {
            name: &self.model,
            url: self.llm.addresses().next().unwrap_or_default(),
            key_file: self.key_file.as_deref(),
        };
        self.models.doubts(first, prompts.least_answer())
    }

    fn links(&self) -> Vec<Link> {
        let links = self.llm.manners().map(|(manner, price)| Link {
            manner: manner.clone(),
            price,
        });
        let links: Vec<Link> = links.collect();
        let is_plain = matches!(&links[..], [only] if only.manner == llm::Manner::default());
        if is_plain { Vec::new() } else { links }
    }

    /// What recordings say of how an agent was made.
    pub(crate) fn made_with<A: Agent>(&self, agent: &A, turn: &Turn) -> MadeWith {
        MadeWith {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: self.model.clone(),
            accept_done: self.llm.accepts_done(),
            price: self.llm.price(),
            chain: self.links(),
            window: turn.window.as_ref().map(Window::bounds),
            options: agent.options(),
            prompts: turn.prompts.references(),
        }
    }
}

/// For agents without options of their own.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
pub struct NoOptions {}

#[derive(Debug, Args)]
pub(super) struct Options<O: Args> {
    #[command(flatten)]
    redis: Redis,
    #[command(flatten)]
    model: Model,
    /// A folder whose <agent>/*.md replace the embedded prompts. A running worker takes changed ones within 5 s, all of them
    /// at once, and keeps those that it has while one of the new ones cannot be used
    #[arg(long, env = "STORYFLEET_PROMPTS", value_name = "DIR")]
    prompts: Option<PathBuf>,
    #[command(flatten)]
    logs: Logs,
    #[command(flatten)]
    pub(super) own: O,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
struct Model {
    /// The base URL of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1
    // Nobody should put a password into it; --help must not show one all the same.
    #[arg(long, env = "LLM_URL", hide_env_values = true, value_name = "URL")]
    llm: String,
    /// The model's name there
    #[arg(long, env = "LLM_MODEL", value_parser = word)]
    model: String,
    /// A file (YAML) of what models cost and may be asked: requests and tokens a minute, calls at once, tokens and cost a day,
    /// for each model, story and person; the same in the whole fleet: docs/models.md
    #[arg(long, env = "STORYFLEET_MODELS", value_name = "FILE")]
    models: Option<PathBuf>,
    #[command(flatten)]
    provider: Provider,
}

/// How a model is reached, wherever it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct Provider {
    /// A file that holds the API key alone. A running worker takes a changed one within 10 s; what it has begun keeps the old
    #[arg(
        long,
        env = "LLM_KEY_FILE",
        value_name = "FILE",
        conflicts_with = "llm_api_key"
    )]
    llm_key_file: Option<PathBuf>,
    /// The API key; prefer the variable or the file, since others can see arguments
    #[arg(long, env = "LLM_API_KEY", hide_env_values = true, value_name = "KEY")]
    llm_api_key: Option<SecretString>,
    /// Longest wait for a connection
    #[arg(long, env = "LLM_CONNECT_TIMEOUT", default_value = "3s", value_parser = limit)]
    llm_connect_timeout: Duration,
    /// Longest wait for the first token
    #[arg(long, env = "LLM_FIRST_TOKEN_TIMEOUT", default_value = "20s", value_parser = limit)]
    llm_first_token_timeout: Duration,
    /// Longest silence between two tokens
    #[arg(long, env = "LLM_STALL_TIMEOUT", default_value = "15s", value_parser = limit)]
    llm_stall_timeout: Duration,
    /// How long a call tries again while the model takes no connection
    #[arg(long, env = "LLM_PATIENCE", default_value = "20s", value_parser = pause)]
    llm_patience: Duration,
    /// Longest call, retries included
    #[arg(long, env = "LLM_TIMEOUT", default_value = "90s", value_parser = limit)]
    llm_timeout: Duration,
    /// Take `[DONE]` for a whole answer: for a server that never tells a finish reason. Others send it after half of one
    #[arg(long, env = "LLM_ACCEPT_DONE", value_parser = clap::builder::BoolishValueParser::new())]
    llm_accept_done: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Worker")]
pub(super) struct Worker {
    /// Events answered at the same time
    #[arg(long, env = "STORYFLEET_CONCURRENCY", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// How long a silent worker keeps its events; the same in the whole fleet
    #[arg(long, env = "STORYFLEET_LEASE", default_value = "10s", value_parser = lease)]
    lease: Duration,
    /// How long what is in flight may go on once asked to end
    #[arg(long, env = "STORYFLEET_DRAIN", default_value = "45s", value_parser = pause)]
    drain: Duration,
    /// Where /metrics, /livez and /readyz are served, such as 0.0.0.0:9090
    #[arg(long, env = "STORYFLEET_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    /// About how many recordings of turns a story keeps, of all agents, for `replay`; 0 = none is made
    #[arg(
        long,
        env = "STORYFLEET_RECORDINGS",
        value_name = "N",
        default_value_t = 1_000
    )]
    recordings: u32,
    /// None older than so many days is kept, or than an eighth more where the story does not go on
    #[arg(long, env = "STORYFLEET_RECORDING_DAYS", value_name = "DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3_650))]
    recording_days: u32,
    /// Leave models alone that fail, and hold retries back when the whole fleet makes too many: docs/models.md
    #[arg(long, env = "STORYFLEET_BREAKER", value_name = "BOOL", default_value = "true", action = ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new())]
    breaker: bool,
    /// The name of this host or pod, for people
    #[arg(long, env = "HOSTNAME", default_value = "worker", value_parser = word)]
    pod: String,
    #[command(flatten)]
    traces: Traces,
}

impl<O: Args> Options<O> {
    pub(super) fn logs(&self) -> anyhow::Result<()> {
        self.logs.start()
    }

    pub(super) fn logs_traced(
        &self,
        worker: &Worker,
        agent: story::Agent,
    ) -> anyhow::Result<Exporting> {
        self.logs.start_traced(&worker.traces, agent.as_str())
    }

    /// For who asks whether the model is there now.
    pub(super) fn without_patience(mut self) -> Self {
        self.model.provider.llm_patience = Duration::ZERO;
        self
    }

    /// Whether calls may be limited.
    pub(super) fn limits(&self) -> bool {
        self.model.models.is_some()
    }

    pub(super) fn bus(&self) -> bus::Settings {
        self.redis.settings()
    }

    /// `observer` is told how each request to the model ends.
    pub(super) fn setup(&self, observer: llm::Observer) -> anyhow::Result<Setup> {
        let model = &self.model;
        let models = model.models.as_deref().map(Models::read);
        let models = models.transpose()?.unwrap_or_default();
        let settings = model.provider.settings(&model.llm, observer)?;
        Ok(Setup {
            llm: models.client(&model.model, &settings)?,
            models,
            key_file: model.provider.llm_key_file.clone(),
            model: model.model.clone(),
            prompts: self.prompts.clone(),
        })
    }
}

impl Provider {
    /// `observer` is told how each request to the model at `url` ends.
    pub(crate) fn settings(
        &self,
        url: &str,
        observer: llm::Observer,
    ) -> anyhow::Result<llm::Settings> {
        Ok(llm::Settings {
            api_key: self.key()?,
            deadlines: llm::Deadlines {
                connect: self.llm_connect_timeout,
                first_token: self.llm_first_token_timeout,
                stall: self.llm_stall_timeout,
                patience: self.llm_patience,
                total: self.llm_timeout,
            },
            accept_done: self.llm_accept_done,
            observer,
            ..llm::Settings::new(url)
        })
    }

    fn key(&self) -> anyhow::Result<Option<SecretString>> {
        let Some(file) = &self.llm_key_file else {
            return Ok(self.llm_api_key.clone());
        };
        Ok(Some(key::read(file)?))
    }
}

impl Worker {
    pub(super) fn settings<O: Args>(
        &self,
        agent: story::Agent,
        options: &Options<O>,
        tier2: Option<Tier>,
    ) -> anyhow::Result<Settings> {
        Ok(Settings {
            name: format!("{}/{agent}", self.pod),
            concurrency: usize::try_from(self.concurrency)?,
            lease: self.lease,
            drain: self.drain,
            listen: self.metrics_listen,
            recordings: self.recordings,
            recording_age: DAY * self.recording_days,
            breaker: self.breaker,
            tier2,
            ..Settings::new(options.bus())
        })
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is waited for: without any time it would never come.
fn limit(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1))
}

fn lease(text: &str) -> Result<Duration, String> {
    duration(text, SHORTEST_LEASE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(limit("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(limit("1m 30s"), Ok(Duration::from_secs(90)));
        for bad in ["10", "", "soon", "-5s"] {
            assert!(
                limit(bad).unwrap_err().starts_with("write it like"),
                "{bad}"
            );
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options<NoOptions>,
        #[command(flatten)]
        worker: Worker,
    }

    fn parsed(name: &str, value: &str) -> Result<Line, String> {
        let option = format!("{name}={value}");
        let line = ["x", "--llm", "http://h", "--model", "m", &option];
        clap::Parser::try_parse_from(line).map_err(|error: clap::Error| error.to_string())
    }

    #[test]
    fn every_duration_has_its_bounds() {
        let (tiny, none) = (("999us", "1ms"), ("-1ns", "0s"));
        for (name, (under, least)) in [
            ("--llm-connect-timeout", tiny),
            ("--llm-first-token-timeout", tiny),
            ("--llm-stall-timeout", tiny),
            ("--llm-timeout", tiny),
            ("--llm-patience", none),
            ("--drain", none),
            ("--lease", ("99ms", "100ms")),
        ] {
            for good in [least, "24h"] {
                assert!(parsed(name, good).is_ok(), "{name} {good}");
            }
            for bad in [under, "24h 1ns", "1000000000000000000s"] {
                let told = parsed(name, bad).unwrap_err();
                assert!(told.contains(name), "{name} {bad}: {told}");
            }
        }
    }
}
