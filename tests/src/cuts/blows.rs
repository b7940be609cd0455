//! What dies in a run beside the readers' connections: agents in the middle of an answer, nodes, Redis.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bus::Bus;
use rand::RngExt;
use serde::Serialize;
use story::Agent;
use tokio::time::{sleep, timeout};

use crate::cuts::plan::{self, PROMPTS};
use crate::cuts::stage::Stage;
use crate::edge::Node;
use crate::redis::{self, Redis};
use crate::{Process, worker};

/// Between two blows.
const SHORTEST: Duration = Duration::from_millis(1_800);
const LONGEST: Duration = Duration::from_millis(3_600);
/// The heartbeats of the nodes. Each wakes its reader, who looks for what is there: only a rare one does not hide that
/// nothing else wakes them.
const PINGS: [&str; 2] = ["5s", "45s"];
/// How long Redis and a node are away, at most.
const AWAY: Duration = Duration::from_millis(1_500);
/// In which text must flow.
const FLOW: Duration = Duration::from_secs(60);
/// Pieces of text that readers were given just before an agent is killed: it is in the middle.
const PIECES: u64 = 20;

/// What was dealt.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Blows {
    /// SIGKILL while text flowed.
    pub agents_killed: u32,
    /// SIGKILL, and started again.
    pub nodes_killed: u32,
    pub redis_restarts: u32,
}

#[derive(Debug, Clone, Copy)]
enum Blow {
    Agent(usize),
    Node,
    Redis,
}

const ROUND: [Blow; 6] = [
    Blow::Agent(0),
    Blow::Node,
    Blow::Redis,
    Blow::Agent(1),
    Blow::Node,
    Blow::Agent(2),
];
const AGENTS: [Agent; 3] = [Agent::Narrator, Agent::Dialogue, Agent::Moderator];

pub(super) struct Fleet {
    pub(super) redis: Redis,
    pub(super) nodes: Vec<Node>,
    pub(super) blows: Blows,
    pub(super) wrong: Vec<String>,
    llm: String,
    folder: PathBuf,
    workers: Vec<Process>,
}

impl Fleet {
    pub(super) async fn start(redis: Redis, llm: &str, folder: &Path) -> anyhow::Result<Self> {
        let prompts = folder.join("prompts").join("narrator");
        std::fs::create_dir_all(&prompts)?;
        for (name, text) in PROMPTS {
            let text = text.replace("max_tokens: 400", "max_tokens: 8000");
            std::fs::write(prompts.join(name), text)?;
        }
        let mut nodes = Vec::new();
        for ping in PINGS {
            nodes.push(Node::start(&redis.url(), folder, &["--ping", ping]).await?);
        }
        let mut fleet = Self {
            redis,
            nodes,
            blows: Blows::default(),
            wrong: Vec::new(),
            llm: llm.to_owned(),
            folder: folder.to_owned(),
            workers: Vec::new(),
        };
        for agent in AGENTS {
            let worker = fleet.worker(agent)?;
            fleet.workers.push(worker);
        }
        Ok(fleet)
    }

    /// Deals blows, each kind at least once, until there is nobody left to cut.
    pub(super) async fn suffer(&mut self, stage: &Arc<Stage>, bus: &Bus) -> anyhow::Result<()> {
        let mut random = plan::source(stage.seed, 2);
        for (count, blow) in ROUND.iter().cycle().enumerate() {
            if count >= ROUND.len() && stage.cuts_left() == 0 {
                return Ok(());
            }
            sleep(random.random_range(SHORTEST..LONGEST)).await;
            let away = random.random_range(Duration::ZERO..AWAY);
            match *blow {
                Blow::Agent(place) => self.kill_agent(stage, place).await?,
                Blow::Node => {
                    let node = random.random_range(0..self.nodes.len());
                    let node = &mut self.nodes[node];
                    if let Some(status) = node.ended()? {
                        self.wrong.push(format!("a node ended by itself: {status}"));
                    }
                    node.kill().await?;
                    sleep(away).await;
                    node.resume().await?;
                    self.blows.nodes_killed += 1;
                }
                Blow::Redis => {
                    stage.tides.goes();
                    self.redis.kill().await?;
                    sleep(away).await;
                    self.redis.resume().await?;
                    redis::answers(bus).await?;
                    stage.tides.is_back();
                    self.blows.redis_restarts += 1;
                }
            }
        }
        Ok(())
    }

    async fn kill_agent(&mut self, stage: &Stage, place: usize) -> anyhow::Result<()> {
        let mut deltas = stage.deltas.subscribe();
        let far = *deltas.borrow_and_update() + PIECES;
        let flows = timeout(FLOW, deltas.wait_for(|deltas| *deltas >= far)).await;
        flows.context("no text flows")??;
        let successor = self.worker(AGENTS[place])?;
        let mut worker = std::mem::replace(&mut self.workers[place], successor);
        if let Some(status) = worker.ended()? {
            let agent = AGENTS[place];
            self.wrong
                .push(format!("{agent} ended by itself: {status}"));
        }
        worker.kill().await?;
        self.blows.agents_killed += 1;
        Ok(())
    }

    /// Asks all to end, and waits for them.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        for node in self.nodes.drain(..) {
            let status = node.end().await?;
            if !status.success() {
                self.wrong
                    .push(format!("a node was asked to end: {status}"));
            }
        }
        for worker in self.workers.drain(..) {
            let status = worker.end().await?;
            if !status.success() {
                self.wrong
                    .push(format!("a worker was asked to end: {status}"));
            }
        }
        Ok(())
    }

    fn worker(&self, agent: Agent) -> anyhow::Result<Process> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(format!("{agent}.log")))?;
        let mut command = worker(agent, &self.redis.url(), &self.llm)?;
        command
            .args(["--lease", "2s", "--llm-timeout", "120s"])
            .stderr(log);
        if agent == Agent::Narrator {
            command.arg("--prompts").arg(self.folder.join("prompts"));
        }
        Process::start(&mut command)
    }
}
