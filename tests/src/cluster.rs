//! A Redis Cluster of real servers: three masters, each with a replica.

use anyhow::{Context, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use crate::redis::{Redis, is_installed};
use crate::wait::{DEADLINE, eventually};

/// Masters; each has one replica.
const MASTERS: usize = 3;
/// What makes a server a node. A replica begins to copy at once.
const NODE: [&str; 6] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
    "--repl-diskless-sync-delay",
    "0",
];

#[derive(Debug)]
pub struct Cluster {
    /// The masters first, as long as all live.
    nodes: Vec<Redis>,
}

impl Cluster {
    /// One that serves all slots, with replicas that have what their masters have.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn start() -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for _ in 0..2 * MASTERS {
            nodes.push(Redis::start(&NODE).await?);
        }
        let cluster = Self { nodes };
        let addresses: Vec<String> = cluster.nodes.iter().map(address).collect();
        let mut create = vec!["--cluster", "create", "--cluster-yes"];
        create.extend(["--cluster-replicas", "1"]);
        create.extend(addresses.iter().map(String::as_str));
        redis_cli(&create).await?;
        eventually("the cluster serves, with replicas", async || {
            cluster.is_whole().await.map(|whole| whole.then_some(()))
        })
        .await?;
        Ok(cluster)
    }

    /// Whether every node serves, and has its place beside a master or over a replica.
    async fn is_whole(&self) -> anyhow::Result<bool> {
        for node in &self.nodes {
            let port = node.port().to_string();
            let of = async |words: &[&str]| redis_cli(&[&["-p", &port], words].concat()).await;
            let serves = of(&["CLUSTER", "INFO"]).await?.contains("cluster_state:ok");
            let role = of(&["INFO", "replication"]).await?;
            let linked = role.contains("state=online") || role.contains("master_link_status:up");
            if !serves || !linked {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[must_use]
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(address).collect();
        format!("redis+cluster://{}", addresses.join(","))
    }

    /// Moves so many slots, with what is in them, from the first master to the second.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn reshard(&self, slots: u32) -> anyhow::Result<()> {
        let (from, to) = (self.id(0).await?, self.id(1).await?);
        let (address, slots) = (address(&self.nodes[0]), slots.to_string());
        redis_cli(&[
            "--cluster",
            "reshard",
            &address,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            &slots,
            "--cluster-yes",
        ])
        .await
        .map(drop)
    }

    async fn id(&self, node: usize) -> anyhow::Result<String> {
        let port = self.nodes[node].port().to_string();
        let id = redis_cli(&["-p", &port, "CLUSTER", "MYID"]).await?;
        Ok(id.trim().to_owned())
    }
}

fn address(node: &Redis) -> String {
    format!("127.0.0.1:{}", node.port())
}

async fn redis_cli(words: &[&str]) -> anyhow::Result<String> {
    let program = ["redis-cli", "valkey-cli"];
    let program = program.into_iter().find(|name| is_installed(name));
    let program = program.context("there is no redis-cli: run scripts/need-redis")?;
    let mut command = Command::new(program);
    let ran = command.args(words).kill_on_drop(true).output();
    let ran = timeout(DEADLINE, ran).await.context("redis-cli hangs")??;
    let [out, err] = [&ran.stdout, &ran.stderr].map(|told| String::from_utf8_lossy(told));
    ensure!(ran.status.success(), "{words:?}: {out}{err}");
    Ok(out.into_owned())
}
