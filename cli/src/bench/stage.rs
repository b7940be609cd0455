//! What a measurement stands on: one Redis, mock models, and the process that is measured, each a process of its own.

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
    /// Names measurements, so that no two share a key.
    fleets: u32,
    /// Makes the floor's prompts as long as the worker's.
    pub(super) padding: usize,
    folder: TempDir,
}

/// A mock model.
pub(super) struct Model {
    base_url: String,
    pub(super) process: Process,
}

#[derive(Deserialize)]
struct Ready {
    base_url: String,
}

impl Stage {
    pub(super) async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = Server::start(&Folder::claim(folder.path()).await?)?;
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
        Ok(Self {
            redis,
            fleets: 0,
            padding: 0,
            folder,
        })
    }

    /// A mock model that takes `latency` for an answer.
    pub(super) async fn model(&self, latency: Duration) -> anyhow::Result<Model> {
        let mut command = Command::new(beside("mock-llm")?);
        let ttft = format!("{}ms", latency.as_millis());
        command.args(["serve", "--json", "--ttft", &ttft]);
        let log = self.folder.path().join(format!("model-{ttft}.log"));
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

    /// Stories for one measurement of `side`.
    pub(super) async fn load(&mut self, side: Side, stories: usize) -> anyhow::Result<Load> {
        self.fleets += 1;
        let settings = Settings {
            prefix: format!("bench{}", self.fleets),
            ..Settings::new(&self.redis.url)
        };
        Load::new(Bus::new(settings)?, side, stories).await
    }

    /// Starts what is measured, on the stories of the last [`Self::load`].
    pub(super) fn start(
        &self,
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
                command
            }
        };
        let prefix = format!("bench{}", self.fleets);
        // Nothing of the environment changes what is measured.
        command.env_clear();
        command.args(["--redis", &self.redis.url, "--prefix", &prefix]);
        command.args([
            "--llm",
            &model.base_url,
            "--concurrency",
            &concurrency.to_string(),
        ]);
        let log = self.folder.path().join(format!("{prefix}.log"));
        Process::start(&mut command, log)
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.redis.stop().await
    }
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
