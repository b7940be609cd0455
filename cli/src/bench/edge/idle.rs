//! What a connection costs on which nothing happens but its heartbeat, once the gateway has let its reader into a story.
//! The gateway and the bare server have theirs at the same time.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, Transport, Way};
use super::report::{Group, Row};
use super::screen::Frame;
use super::stage::{Node, START, Side, Stage};
use crate::bench::process::Usage;

/// Handshakes at once.
const AT_ONCE: usize = 64;
const STORIES: usize = 100;

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) connections: usize,
    pub(super) time: Duration,
}

/// Of one connection.
struct Cost {
    kib: f64,
    /// CPU µs in a second.
    cpu: f64,
}

pub(super) async fn measure(stage: &Stage, plan: Plan) -> anyhow::Result<Vec<Group>> {
    Ok(vec![
        over(stage, Transport::Socket, plan).await?,
        over(stage, Transport::Stream, plan).await?,
    ])
}

async fn over(stage: &Stage, transport: Transport, plan: Plan) -> anyhow::Result<Group> {
    let (name, goal) = match transport {
        Transport::Socket => ("WebSocket", 8.0),
        Transport::Stream => ("SSE", 14.0),
    };
    stage
        .stories(&format!("idle-{}", name.to_lowercase()), STORIES)
        .await?;
    let nodes = [
        stage.node(Side::Gateway).await?,
        stage.node(Side::Bare).await?,
    ];
    let mut crowd = JoinSet::new();
    let (mut before, mut full) = (Vec::new(), Vec::new());
    for (node, side) in nodes.iter().zip([Side::Gateway, Side::Bare]) {
        before.push(node.usage()?);
        gather(
            stage,
            (node, side),
            (transport, plan.connections),
            &mut crowd,
        )
        .await?;
    }
    // What the handshakes began is done within one heartbeat.
    sleep(plan.time / 4).await;
    for node in &nodes {
        full.push(node.usage()?);
    }
    let begin = Instant::now();
    sleep(plan.time).await;
    ensure!(crowd.try_join_next().is_none(), "a connection was closed");
    let mut costs = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        costs.push(cost(&before[at], &full[at], &node.usage()?, (begin, plan)));
    }
    drop(crowd);
    for node in nodes {
        node.end().await?;
    }
    let (count, [gateway, bare]) = (plan.connections, &costs[..]) else {
        bail!("two servers were measured");
    };
    let rows = [
        Row::new("memory of one, KiB", gateway.kib)
            .beside(bare.kib)
            .at_most(goal),
        Row::new("CPU of one in a second, µs", gateway.cpu)
            .beside(bare.cpu)
            .at_most(2.0),
    ];
    let name = format!("{count} idle readers over {name}, in {STORIES} stories");
    Ok(Group::new(name, rows))
}

fn cost(before: &Usage, full: &Usage, after: &Usage, (begin, plan): (Instant, Plan)) -> Cost {
    let count = plan.connections as f64;
    let cpu = after.cpu.saturating_sub(full.cpu).as_secs_f64();
    Cost {
        kib: (after.rss_mb - before.rss_mb) * 1e6 / 1_024.0 / count,
        cpu: cpu * 1e6 / begin.elapsed().as_secs_f64() / count,
    }
}

/// Each connection answers its pings until `crowd` is dropped.
async fn gather(
    stage: &Stage,
    (node, side): (&Node, Side),
    (transport, count): (Transport, usize),
    crowd: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let kind = match transport {
        Transport::Socket => "idle-websocket",
        Transport::Stream => "idle-sse",
    };
    let opened = stream::iter(0..count).map(async |number| {
        let story = format!("{kind}-{}", number % STORIES);
        let client = match side {
            Side::Gateway => {
                let token = stage.issuer.token(&format!("reader-{number}"))?;
                let way = Way {
                    address: node.address,
                    token: &token,
                };
                let mut client = Client::read(way, transport, &story, None).await?;
                joined(&mut client).await?;
                client
            }
            Side::Bare => Client::read_bare(node.address, transport, &story).await?,
        };
        anyhow::Ok(client)
    });
    let mut opened = opened.buffer_unordered(AT_ONCE);
    while let Some(mut client) = opened.try_next().await? {
        crowd.spawn(async move { while client.next().await.is_ok() {} });
    }
    Ok(())
}

/// Until the story is there: who was refused it would cost less.
async fn joined(client: &mut Client) -> anyhow::Result<()> {
    let answer = async {
        loop {
            let message = client.next().await?;
            let frame: Frame<'_> = serde_json::from_slice(message)?;
            match frame.t {
                "ok" | "live" => return anyhow::Ok(()),
                "err" | "bye" => bail!("a join is answered {}", String::from_utf8_lossy(message)),
                _ => {}
            }
        }
    };
    timeout(START, answer)
        .await
        .context("a join is not answered")?
}
