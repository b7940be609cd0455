//! Redis on several real servers: a Cluster of three masters, each with a replica, or one master with a replica and the
//! sentinels that watch them.

mod cli;
mod sentinel;
mod shards;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, ensure};
use story::StoryId;

use crate::authority::Encrypted;
use crate::redis::{Kind, Redis};
use crate::wait::eventually;
use crate::{Authority, Signal};

use cli::{ask, command, redis_cli};
pub use sentinel::Sentinel;
use shards::agrees;

/// Of a cluster; each has one replica.
const MASTERS: usize = 3;
/// Of one master and its replica.
const SENTINELS: usize = 3;
/// What makes a server a node. A replica begins to copy at once.
const NODE: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
/// A replica begins to copy at once.
const EAGER: [&str; 2] = ["--repl-diskless-sync-delay", "0"];
/// What sentinels call the master.
const NAME: &str = "main";

#[derive(Debug)]
pub struct Servers {
    /// The masters first, as long as all live.
    nodes: Vec<Redis>,
    sentinels: Vec<Sentinel>,
    /// `None` = they speak in the clear.
    tls: Option<Encrypted>,
}

impl Servers {
    /// A cluster that serves all slots, with replicas that have what their masters have; its data and logs are in `folder`.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn cluster(folder: &Path) -> anyhow::Result<Self> {
        Self::cluster_of(folder, None, &[]).await
    }

    /// The same, which answers where slots are served while others are not.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn cluster_in_part(folder: &Path) -> anyhow::Result<Self> {
        let settings = ["--cluster-require-full-coverage", "no"];
        Self::cluster_of(folder, None, &settings).await
    }

    /// The same under TLS, with whoever `authority` vouches for.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn encrypted_cluster(folder: &Path, authority: &Authority) -> anyhow::Result<Self> {
        Self::cluster_of(folder, Some(authority), &[]).await
    }

    async fn cluster_of(
        folder: &Path,
        authority: Option<&Authority>,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let tls = authority.map(Encrypted::by).transpose()?;
        let settings = [&NODE[..], &EAGER, settings].concat();
        let servers = Self {
            nodes: nodes(folder, 2 * MASTERS, &settings, tls.as_ref()).await?,
            sentinels: Vec::new(),
            tls,
        };
        let addresses: Vec<String> = servers.nodes.iter().map(address).collect();
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(["--cluster-replicas", "1"]);
        create.extend(addresses.iter().map(String::as_str));
        redis_cli(servers.tls.as_ref(), &create).await?;
        eventually("the cluster serves, with replicas", async || {
            let whole = servers.is_whole().await? && servers.is_written()?;
            Ok(whole.then_some(()))
        })
        .await?;
        Ok(servers)
    }

    /// A master, a replica that has what it has, and three sentinels who know both; all of them in `folder`.
    ///
    /// # Errors
    /// When they do not come about.
    pub async fn sentinel(folder: &Path) -> anyhow::Result<Self> {
        Self::sentinel_of(folder, None).await
    }

    /// The same under TLS, with whoever `authority` vouches for.
    ///
    /// # Errors
    /// When they do not come about.
    pub async fn encrypted_sentinel(folder: &Path, authority: &Authority) -> anyhow::Result<Self> {
        Self::sentinel_of(folder, Some(authority)).await
    }

    async fn sentinel_of(folder: &Path, authority: Option<&Authority>) -> anyhow::Result<Self> {
        let tls = authority.map(Encrypted::by).transpose()?;
        let nodes = nodes(folder, 2, &EAGER, tls.as_ref()).await?;
        let at = nodes[0].port().to_string();
        command(&nodes[1], &["REPLICAOF", "127.0.0.1", &at]).await?;
        let mut servers = Self {
            nodes,
            sentinels: Vec::new(),
            tls,
        };
        eventually("the replica has what the master has", async || {
            let whole = servers.is_linked(&servers.nodes[1]).await?;
            Ok(whole.then_some(()))
        })
        .await?;
        for number in 0..SENTINELS {
            let folder = folder.join(format!("sentinel-{number}"));
            std::fs::create_dir(&folder)?;
            let master = &servers.nodes[0];
            let sentinel = Sentinel::start(&folder, master, "").await?;
            servers.sentinels.push(sentinel);
        }
        eventually(
            "the sentinels know each other and the replica",
            async || {
                for sentinel in &servers.sentinels {
                    let ready = ask(
                        servers.tls.as_ref(),
                        sentinel.port(),
                        &["SENTINEL", "CKQUORUM", NAME],
                    )
                    .await?;
                    let known = ask(
                        servers.tls.as_ref(),
                        sentinel.port(),
                        &["SENTINEL", "REPLICAS", NAME],
                    )
                    .await?;
                    if !ready.starts_with("OK 3") || !known.contains("master-link-status\nok") {
                        return Ok(None);
                    }
                }
                Ok(Some(()))
            },
        )
        .await?;
        Ok(servers)
    }

    /// Whether every node serves, and has its place beside a master or over a replica.
    async fn is_whole(&self) -> anyhow::Result<bool> {
        for node in &self.nodes {
            let info = ask(node.tls(), node.port(), &["CLUSTER", "INFO"]).await?;
            if !info.contains("cluster_state:ok") || !self.is_linked(node).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether each node of a new cluster would find itself in its place if it began anew.
    fn is_written(&self) -> anyhow::Result<bool> {
        for node in &self.nodes {
            if !agrees(&std::fs::read_to_string(node.data().join("nodes.conf"))?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn is_linked(&self, node: &Redis) -> anyhow::Result<bool> {
        let role = ask(node.tls(), node.port(), &["INFO", "replication"]).await?;
        Ok(role.contains("state=online") || role.contains("master_link_status:up"))
    }

    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        };
        if self.sentinels.is_empty() {
            let addresses: Vec<String> = self.nodes.iter().map(address).collect();
            return format!("{scheme}+cluster://{}", addresses.join(","));
        }
        let addresses = self.sentinels.iter().map(|each| at(each.port()));
        let addresses: Vec<String> = addresses.collect();
        format!("{scheme}+sentinel://{}/{NAME}", addresses.join(","))
    }

    /// The masters of a new cluster first.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// The first of the nodes that is a master now, and its replica.
    ///
    /// # Errors
    /// When a node does not tell.
    pub async fn pair(&self) -> anyhow::Result<(usize, usize)> {
        for (number, node) in self.nodes.iter().enumerate() {
            // "master", how far it is, then address, port and place of each replica.
            let role = command(node, &["ROLE"]).await?;
            let mut words = role.lines();
            if words.next() == Some("master") {
                let replica = words.nth(2).and_then(|port| port.parse().ok());
                let of = |port: u16| self.nodes.iter().position(|node| node.port() == port);
                let replica = replica.and_then(of).context("a master without replica")?;
                return Ok((number, replica));
            }
        }
        anyhow::bail!("no node is a master")
    }

    /// Whether a node of a cluster has a key.
    ///
    /// # Errors
    /// When the node cannot be asked.
    pub async fn has(&self, node: usize, key: &str) -> anyhow::Result<bool> {
        let found = command(&self.nodes[node], &["KEYS", key]).await?;
        Ok(found.trim() == key)
    }

    /// Freezes a replica, and cuts it off: of what its master writes from now on it has nothing.
    ///
    /// # Errors
    /// When the master does not do it.
    pub async fn part(&self, master: usize, replica: usize) -> anyhow::Result<()> {
        self.signal(replica, Signal::STOP)?;
        let cut = command(&self.nodes[master], &["CLIENT", "KILL", "TYPE", "replica"]).await?;
        ensure!(cut.trim() == "1", "the master has no replica: {cut}");
        Ok(())
    }

    /// Waits until a replica has taken its master's place.
    ///
    /// # Errors
    /// When it does not.
    pub async fn promoted(&self, node: usize) -> anyhow::Result<()> {
        eventually("the replica takes over", async || {
            let role = ask(self.nodes[node].tls(), self.nodes[node].port(), &["ROLE"]).await?;
            Ok(role.starts_with("master").then_some(()))
        })
        .await
    }

    /// Waits until all is as it was, whoever is master: who was away has what it missed.
    ///
    /// # Errors
    /// When that does not come.
    pub async fn mended(&self) -> anyhow::Result<()> {
        eventually("the servers are whole again", async || {
            let whole = match self.sentinels.is_empty() {
                true => self.is_whole().await?,
                false => {
                    self.is_linked(&self.nodes[0]).await? && self.is_linked(&self.nodes[1]).await?
                }
            };
            Ok(whole.then_some(()))
        })
        .await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].kill().await
    }

    /// Starts one again on its data; it serves when this returns.
    ///
    /// # Errors
    /// When it does not.
    pub async fn resume(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].resume().await
    }

    /// # Errors
    /// When it does not run.
    pub fn signal(&self, node: usize, signal: Signal) -> anyhow::Result<()> {
        self.nodes[node].signal(signal)
    }

    /// The stories whose logs a node has.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn stories(&self, node: usize) -> anyhow::Result<BTreeSet<StoryId>> {
        let keys = command(&self.nodes[node], &["KEYS", "sf:*:log:*"]).await?;
        // Of none it writes an empty line.
        let keys = keys.lines().filter(|key| !key.is_empty());
        let ids = keys.filter_map(|key| key.rsplit(':').next());
        ids.map(|id| Ok(id.parse()?)).collect()
    }

    /// Moves so many slots of a cluster, the first that one of its masters has, to another master; gives the stories that
    /// went with them.
    ///
    /// # Errors
    /// When the cluster refuses, or no story went.
    pub async fn reshard(&self, from: usize, slots: u32) -> anyhow::Result<BTreeSet<StoryId>> {
        let mut others = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            if number != from && command(node, &["ROLE"]).await?.starts_with("master") {
                others.push(node);
            }
        }
        let to = others.first().context("there is no other master")?;
        let (from_id, to_id) = (id(&self.nodes[from]).await?, id(to).await?);
        let before = self.stories(from).await?;
        let address = address(&self.nodes[from]);
        let slots = slots.to_string();
        let reshard = [
            "--cluster",
            "reshard",
            &address,
            "--cluster-from",
            &from_id,
            "--cluster-to",
            &to_id,
            "--cluster-slots",
            &slots,
            "--cluster-yes",
        ];
        redis_cli(self.tls.as_ref(), &reshard).await?;
        let moved = &before - &self.stories(from).await?;
        ensure!(!moved.is_empty(), "no story was in the slots that moved");
        Ok(moved)
    }
}

async fn nodes(
    folder: &Path,
    count: usize,
    settings: &[&str],
    tls: Option<&Encrypted>,
) -> anyhow::Result<Vec<Redis>> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let data = folder.join(format!("redis-{number}"));
        std::fs::create_dir(&data)?;
        let kind = tls.map_or(Kind::Usual, Kind::Encrypted);
        nodes.push(Redis::start_with(&data, settings, kind).await?);
    }
    Ok(nodes)
}

/// What a node of a cluster is called.
async fn id(node: &Redis) -> anyhow::Result<String> {
    let id = command(node, &["CLUSTER", "MYID"]).await?;
    Ok(id.trim().to_owned())
}

fn address(node: &Redis) -> String {
    at(node.port())
}

fn at(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
