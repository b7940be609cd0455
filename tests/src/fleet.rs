//! Workers of every agent, which log to files. They can be replaced one by one with those of another build, as a deploy does.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use story::Agent;
use tokio::time::{Instant, sleep_until};

use crate::wait::eventually;
use crate::{Build, Process, Signal};

/// How workers are asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Way {
    /// SIGTERM: they finish what they have.
    Drained,
    /// SIGTERM twice: they hand on what they have, to workers of both builds.
    Hurried,
}

/// How many there are, and what each is told.
pub(crate) struct Terms {
    /// Of each agent.
    pub(crate) of_each: usize,
    pub(crate) redis: String,
    pub(crate) llm: String,
    pub(crate) options: Vec<String>,
    /// A folder for their logs, one file for each life: `<agent>-<number>.log`.
    pub(crate) logs: PathBuf,
}

/// How workers were replaced.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Replaced {
    pub drained: u32,
    /// Of them, the slowest.
    pub slowest_drain_s: f64,
    /// Asked twice, so that they handed on what they had.
    pub hurried: u32,
}

/// One life of one.
struct Worker {
    agent: Agent,
    process: Process,
    log: PathBuf,
}

pub(crate) struct Fleet {
    pub(crate) replaced: Replaced,
    terms: Terms,
    lives: u32,
    workers: VecDeque<Worker>,
}

impl Fleet {
    /// All of them take events when this returns.
    pub(crate) async fn start(build: &Build, terms: Terms) -> anyhow::Result<Self> {
        let mut fleet = Self {
            replaced: Replaced::default(),
            terms,
            lives: 0,
            workers: VecDeque::new(),
        };
        for _ in 0..fleet.terms.of_each {
            for agent in Agent::ALL {
                fleet.start_worker(build, agent).await?;
            }
        }
        Ok(fleet)
    }

    /// Replaces all, the oldest first, each `pace` after the one before, or later if that takes longer.
    pub(crate) async fn replace(
        &mut self,
        build: &Build,
        way: Way,
        pace: Duration,
    ) -> anyhow::Result<()> {
        let mut next = Instant::now();
        for _ in 0..self.workers.len() {
            sleep_until(next).await;
            next = Instant::now() + pace;
            let old = self.workers.pop_front().context("there are workers")?;
            let agent = old.agent;
            self.end_worker(old, way).await?;
            self.start_worker(build, agent).await?;
        }
        Ok(())
    }

    /// Asks all to end, and waits for them.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        for worker in std::mem::take(&mut self.workers) {
            self.end_worker(worker, Way::Drained).await?;
        }
        Ok(())
    }

    async fn end_worker(&mut self, mut worker: Worker, way: Way) -> anyhow::Result<()> {
        let log = worker.log.display();
        let early = worker.process.ended()?;
        ensure!(early.is_none(), "{log}: it ended by itself: {early:?}");
        let asked = Instant::now();
        if way == Way::Hurried {
            worker.process.signal(Signal::TERM)?;
            // Two signals at once may be one.
            says(&mut worker.process, &worker.log, "asked to end").await?;
        }
        // One that had nothing has ended at the first.
        let first = worker.process.ended()?;
        let status = match first {
            Some(status) => status,
            None => worker.process.end().await?,
        };
        ensure!(status.success(), "{log}: it was asked to end: {status}");
        match way {
            Way::Hurried => self.replaced.hurried += u32::from(first.is_none()),
            Way::Drained => {
                self.replaced.drained += 1;
                let slowest = &mut self.replaced.slowest_drain_s;
                *slowest = slowest.max(asked.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// One that takes events when this returns.
    async fn start_worker(&mut self, build: &Build, agent: Agent) -> anyhow::Result<()> {
        self.lives += 1;
        let name = format!("{agent}-{}", self.lives);
        let log = self.terms.logs.join(format!("{name}.log"));
        let mut command = build.worker(agent, &self.terms.redis, &self.terms.llm)?;
        command
            .args(["--pod", &name, "--log", "json"])
            .args(&self.terms.options)
            .stderr(File::create(&log).context("a worker's log cannot be written")?);
        let mut process = Process::start(&mut command)?;
        says(&mut process, &log, "taking events").await?;
        self.workers.push_back(Worker {
            agent,
            process,
            log,
        });
        Ok(())
    }
}

/// Waits until a worker's log has `words`, unless it ends before.
async fn says(process: &mut Process, log: &Path, words: &str) -> anyhow::Result<()> {
    eventually(&format!("{words}: {}", log.display()), async || {
        let ended = process.ended()?;
        let told = std::fs::read_to_string(log)?;
        match ended {
            _ if told.contains(words) => Ok(Some(())),
            None => Ok(None),
            Some(status) => bail!("{}: it ended with {status}: {told}", log.display()),
        }
    })
    .await
}
