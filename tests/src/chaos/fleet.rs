//! The processes that suffer: the workers, each in a slot that is never empty, and Redis.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::chaos::plan::{Blow, LEASE, SLOTS, agent};
use crate::redis::Redis;
use crate::{Process, Relay, Signal, worker};

/// How long a worker that was asked to end may go on with what it has.
const DRAIN: Duration = Duration::from_secs(3);

/// What was dealt.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Blows {
    pub killed: u32,
    pub ended: u32,
    pub frozen: u32,
    pub delayed: u32,
    pub redis_restarts: u32,
    pub redis_frozen: u32,
}

pub(super) struct Fleet {
    pub(super) redis: Redis,
    pub(super) blows: Blows,
    /// Workers that ended without being told to, or not as they should.
    pub(super) wrong: Vec<String>,
    llm: String,
    shards: u16,
    /// Of the workers' logs, one file for each slot.
    logs: PathBuf,
    slots: Vec<Process>,
    /// The way of each slot to Redis.
    ways: Vec<Relay>,
    /// Told to end, and not gone yet.
    leaving: JoinSet<(usize, anyhow::Result<ExitStatus>)>,
}

impl Fleet {
    pub(super) async fn start(
        redis: Redis,
        llm: String,
        shards: u16,
        logs: PathBuf,
    ) -> anyhow::Result<Self> {
        let mut fleet = Self {
            redis,
            blows: Blows::default(),
            wrong: Vec::new(),
            llm,
            shards,
            logs,
            slots: Vec::new(),
            ways: Vec::new(),
            leaving: JoinSet::new(),
        };
        for slot in 0..SLOTS {
            let way = Relay::before(&fleet.redis.url()).await?;
            fleet.ways.push(way);
            let worker = fleet.worker(slot)?;
            fleet.slots.push(worker);
        }
        Ok(fleet)
    }

    /// Deals the blows, each at its time after `start`.
    pub(super) async fn suffer(
        &mut self,
        blows: &[(Duration, Blow)],
        start: Instant,
    ) -> anyhow::Result<()> {
        for (at, blow) in blows {
            sleep_until(start + *at).await;
            self.deal(*blow)
                .await
                .with_context(|| format!("{blow:?} at {at:?}"))?;
        }
        Ok(())
    }

    async fn deal(&mut self, blow: Blow) -> anyhow::Result<()> {
        match blow {
            Blow::Kill(slot) => {
                self.replace(slot)?.kill().await?;
                self.blows.killed += 1;
            }
            Blow::End(slot) => {
                let process = self.replace(slot)?;
                self.leaving
                    .spawn(async move { (slot, process.end().await) });
                self.blows.ended += 1;
            }
            Blow::Freeze(slot) => {
                self.look_after(slot)?;
                self.slots[slot].freeze()?;
                self.blows.frozen += 1;
            }
            Blow::Thaw(slot) => self.slots[slot].thaw()?,
            Blow::Delay(slot) => {
                self.ways[slot].hold();
                self.blows.delayed += 1;
            }
            Blow::Undelay(slot) => self.ways[slot].release(),
            Blow::KillRedis => self.redis.kill().await?,
            Blow::EndRedis => self.redis.end().await?,
            Blow::FreezeRedis => {
                self.redis.signal(Signal::STOP)?;
                self.blows.redis_frozen += 1;
            }
            Blow::ThawRedis => self.redis.signal(Signal::CONT)?,
            Blow::StartRedis => {
                self.redis.resume().await?;
                self.blows.redis_restarts += 1;
            }
        }
        while let Some(left) = self.leaving.try_join_next() {
            self.left(left?);
        }
        Ok(())
    }

    /// Asks all workers to end, and waits for them.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        for slot in 0..self.slots.len() {
            self.look_after(slot)?;
        }
        for (slot, process) in self.slots.drain(..).enumerate() {
            self.leaving
                .spawn(async move { (slot, process.end().await) });
        }
        while let Some(left) = self.leaving.join_next().await {
            self.left(left?);
        }
        Ok(())
    }

    fn left(&mut self, (slot, ended): (usize, anyhow::Result<ExitStatus>)) {
        let ended = ended.and_then(|status| {
            // SIGTERM itself ends only a process too young to listen to it: it had nothing yet.
            let young = status.signal() == Some(Signal::TERM.as_raw());
            ensure!(status.success() || young, "{status}");
            Ok(())
        });
        if let Err(error) = ended {
            let agent = agent(slot);
            self.wrong
                .push(format!("{agent} {slot} was asked to end: {error:#}"));
        }
    }

    /// Puts a new process into the slot; gives the old one.
    fn replace(&mut self, slot: usize) -> anyhow::Result<Process> {
        self.look_after(slot)?;
        let worker = self.worker(slot)?;
        Ok(std::mem::replace(&mut self.slots[slot], worker))
    }

    /// Nobody ends by themselves.
    fn look_after(&mut self, slot: usize) -> anyhow::Result<()> {
        if let Some(status) = self.slots[slot].ended()? {
            let agent = agent(slot);
            self.wrong
                .push(format!("{agent} {slot} ended by itself: {status}"));
            self.slots[slot] = self.worker(slot)?;
        }
        Ok(())
    }

    fn worker(&self, slot: usize) -> anyhow::Result<Process> {
        let name = format!("{}-{slot}", agent(slot));
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.logs.join(format!("{name}.log")))
            .context("a worker's log cannot be written")?;
        let mut command = worker(agent(slot), &self.ways[slot].url(), &self.llm)?;
        command
            .args(["--pod", &name, "--log", "json"])
            .args(["--shards", &self.shards.to_string()])
            .args(["--log-filter", "info", "--concurrency", "16"])
            .args(["--lease", &format!("{}ms", LEASE.as_millis())])
            .args(["--drain", &format!("{}s", DRAIN.as_secs())])
            .args(["--llm-connect-timeout", "500ms", "--llm-timeout", "5s"])
            .args(["--llm-first-token-timeout", "800ms"])
            .args(["--llm-stall-timeout", "500ms"])
            .args(["--tier2", "endpoint"])
            .stderr(log);
        Process::start(&mut command)
    }
}
