//! What the rows stand on: a Redis, and servers that are processes of their own.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, NewStory, Settings};
use futures::{StreamExt, TryStreamExt, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use story::StoryId;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use super::client::{Client, Way};
use super::token::Issuer;
use crate::bench::process::{Process, Usage};
use crate::bench::stage::{LOOK, server};
use crate::up::redis::Server;

/// How long any part may take to be ready.
pub(super) const START: Duration = Duration::from_secs(10);

/// Requests to Redis under way at once while stories are made.
const AT_ONCE: usize = 64;

pub(super) struct Stage {
    pub(super) redis: Server,
    pub(super) bus: Bus,
    pub(super) issuer: Issuer,
    /// Files that each process may have open.
    pub(super) files: u64,
    folder: TempDir,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Bare,
}

/// A server, at its address.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) address: SocketAddr,
    process: Process,
}

impl Stage {
    pub(super) async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = server(&folder.path().join("redis")).await?;
        Ok(Self {
            bus: Bus::new(Settings::new(&redis.url))?,
            issuer: Issuer::new(folder.path())?,
            files: files(),
            redis,
            folder,
        })
    }

    /// So many people at a node, each in a story of their own.
    pub(super) async fn people(
        &self,
        name: &str,
        count: usize,
        node: &Node,
    ) -> anyhow::Result<Vec<(Client, StoryId)>> {
        let mut people = Vec::new();
        for (number, story) in self.stories(name, count).await?.into_iter().enumerate() {
            let token = self.issuer.token(&format!("person-{number}"))?;
            let way = Way {
                address: node.address,
                token: &token,
            };
            let mut client = Client::socket(way).await?;
            let join = json!({"t": "join", "story": story});
            client.say(&join.to_string()).await?;
            people.push((client, story));
        }
        Ok(people)
    }

    /// Starts one that listens when this returns.
    pub(super) async fn node(&self, side: Side) -> anyhow::Result<Node> {
        self.node_at(side, free()?).await
    }

    pub(super) async fn node_at(&self, side: Side, address: SocketAddr) -> anyhow::Result<Node> {
        let mut command = self.command(side.to_string());
        command.args(["--listen", &address.to_string()]);
        if side == Side::Gateway {
            command.arg("--jwt-secrets").arg(self.issuer.secrets());
            command.arg("--jwks-file").arg(self.issuer.jwks());
        }
        let log = self.log(&format!("{side}-{}", address.port()));
        let mut process = Process::start(&mut command, log)?;
        let listens = async {
            let mut looks = interval(LOOK);
            while TcpStream::connect(address).await.is_err() {
                process.must_live()?;
                looks.tick().await;
            }
            anyhow::Ok(())
        };
        timeout(START, listens)
            .await
            .context("no server listens")??;
        Ok(Node { address, process })
    }

    pub(super) fn narrator(&self, llm: &str) -> anyhow::Result<Process> {
        let mut command = self.command("narrator");
        command.args(["--llm", llm]);
        Process::start(&mut command, self.log("narrator"))
    }

    /// New stories, named so and numbered.
    pub(super) async fn stories(&self, name: &str, count: usize) -> anyhow::Result<Vec<StoryId>> {
        let ids = (0..count).map(|number| format!("{name}-{number}").parse());
        let ids = ids.collect::<Result<Vec<StoryId>, _>>()?;
        let made = stream::iter(&ids).map(async |id| {
            let story = NewStory::new(id.clone());
            self.bus.create_story(&story).await
        });
        made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(ids)
    }

    /// One of each process's own executable, without anything of the environment.
    fn command(&self, what: impl AsRef<str>) -> Command {
        let this = std::env::current_exe();
        let mut command = Command::new(this.unwrap_or_else(|_| "storyfleet".into()));
        command.env_clear();
        command.args(["--redis", &self.redis.url, "node", what.as_ref()]);
        command
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    pub(super) fn redis_folder(&self) -> PathBuf {
        Path::new(self.folder.path()).join("redis")
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.redis.stop().await
    }
}

impl Node {
    pub(super) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    pub(super) async fn end(self) -> anyhow::Result<()> {
        self.process.end().await
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Bare => "bare",
        })
    }
}

/// As many as this process may have, and its children with it.
fn files() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(1 << 20);
    let wanted = Rlimit {
        current: Some(most),
        maximum: now.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => most,
        Err(_) => now.current.unwrap_or(most),
    }
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
