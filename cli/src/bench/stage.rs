//! What a measurement stands on: a Redis, a mock model, and the process that is measured, each a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Settings};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, interval, timeout};

use super::load::Load;
use super::process::{Process, beside};
use crate::up::redis::{Folder, Server};

/// How long any part may take to be ready.
const START: Duration = Duration::from_secs(10);

/// How often the progress of a measurement is looked at: rarely enough not to disturb it.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The bare loop.
    Floor,
    /// A worker.
    Fleet,
}

pub(super) struct Stage {
    pub(super) redis: Server,
    /// The servers so far: each measurement has one of its own, since what an earlier one left there (keys to go
    /// through, an append-only file to rewrite) would slow the later.
    servers: u32,
    /// Makes the floor's prompts as long as the worker's.
    pub(super) padding: usize,
    /// Whether the worker records its turns, as it does unless told otherwise.
    pub(super) records: bool,
    /// Of the fleet.
    pub(super) shards: u16,
    /// Where the worker tells its metrics, if it does.
    pub(super) metrics: Option<SocketAddr>,
    pub(super) folder: TempDir,
}

/// A mock model.
pub(super) struct Model {
    base_url: String,
    pub(super) process: Process,
}

/// When a mock model's words come: the first, and the time between two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) between: Duration,
}

#[derive(Deserialize)]
struct Ready {
    base_url: String,
}

impl Stage {
    pub(super) async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            redis: server(&folder.path().join("redis0")).await?,
            servers: 1,
            padding: 0,
            records: true,
            shards: 1,
            metrics: None,
            folder,
        })
    }

    pub(super) async fn model(&self, pace: Pace) -> anyhow::Result<Model> {
        let mut command = Command::new(beside("mock-llm")?);
        let [first, between] =
            [pace.first, pace.between].map(|time| format!("{}ms", time.as_millis()));
        command.args(["serve", "--json", "--ttft", &first, "--itl", &between]);
        let log = format!("model-{first}-{between}.log");
        let log = self.folder.path().join(log);
        let mut process = Process::start(command.stdout(Stdio::piped()), log)?;
        let out = process.child().stdout.take().context("a pipe")?;
        let mut lines = BufReader::new(out).lines();
        let line = timeout(START, lines.next_line())
            .await
            .context("the mock model does not start")??;
        let Some(line) = line else {
            process.must_live()?;
            anyhow::bail!("the mock model says nothing");
        };
        let Ready { base_url } = serde_json::from_str(&line)?;
        Ok(Model { base_url, process })
    }

    /// A new Redis, with the stories of one measurement of `side`.
    pub(super) async fn load(&mut self, side: Side, stories: usize) -> anyhow::Result<Load> {
        Load::new(self.empty().await?, side, stories).await
    }

    /// The way to a new Redis.
    pub(super) async fn empty(&mut self) -> anyhow::Result<Bus> {
        let folder = self.folder.path().join(format!("redis{}", self.servers));
        self.servers += 1;
        let before = std::mem::replace(&mut self.redis, server(&folder).await?);
        before.stop().await?;
        let mut settings = Settings::new(&self.redis.url);
        settings.shards = self.shards;
        Ok(Bus::new(settings)?)
    }

    /// Starts what is measured, on the stories of the last [`Self::load`].
    pub(super) fn start(
        &self,
        side: Side,
        model: &Model,
        concurrency: usize,
    ) -> anyhow::Result<Process> {
        self.start_one_of(0, side, model, concurrency)
    }

    /// The same of one of several; `number` tells their logs apart.
    pub(super) fn start_one_of(
        &self,
        number: usize,
        side: Side,
        model: &Model,
        concurrency: usize,
    ) -> anyhow::Result<Process> {
        let mut command = match side {
            Side::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["bare", "--padding", &self.padding.to_string()]);
                command
            }
            Side::Fleet => {
                let mut command = Command::new(beside(super::bare::AGENT.as_str())?);
                command.args(["run", "--model", "mock"]);
                command.args(["--shards", &self.shards.to_string()]);
                if let Some(listen) = self.metrics {
                    command.args(["--metrics-listen", &listen.to_string()]);
                }
                if !self.records {
                    command.args(["--recordings", "0"]);
                }
                command
            }
        };
        // Nothing of the environment changes what is measured.
        command.env_clear();
        command.args(["--redis", &self.redis.url]);
        command.args([
            "--llm",
            &model.base_url,
            "--concurrency",
            &concurrency.to_string(),
        ]);
        let log = self
            .folder
            .path()
            .join(format!("{}-{number}.log", self.servers));
        Process::start(&mut command, log)
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.redis.stop().await
    }
}

/// An empty Redis that answers.
pub(super) async fn server(folder: &Path) -> anyhow::Result<Server> {
    let redis = Server::start(&Folder::claim(folder).await?)?;
    let bus = Bus::new(Settings::new(&redis.url))?;
    let answers = async {
        let mut looks = interval(LOOK);
        while bus.ping().await.is_err() {
            looks.tick().await;
        }
    };
    timeout(START, answers)
        .await
        .context("the Redis server does not answer")?;
    Ok(redis)
}

/// Waits until the process has asked for work, which makes the group.
pub(super) async fn ready(load: &Load, process: &mut Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    let mut looks = interval(LOOK);
    while load.bare.progress().await?.is_none() {
        process.must_live()?;
        anyhow::ensure!(
            Instant::now() < deadline,
            "the measured process takes no work"
        );
        looks.tick().await;
    }
    Ok(())
}
