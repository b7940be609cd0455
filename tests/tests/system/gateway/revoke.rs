//! Tokens that are taken back while their people read, at two nodes.

use std::time::Duration;

use anyhow::ensure;
use gateway::auth::Role;
use serde_json::json;
use system_tests::edge::{Issuer, Node, Person, Socket, Stream};
use tokio::time::Instant;

use super::{Edge, join, publish, says};
use crate::command;

/// From the start of the command to the end of the last connection.
const AT_ONCE: Duration = Duration::from_secs(1);

/// One person's connections to both nodes.
struct Everywhere {
    token: String,
    sockets: Vec<Socket>,
    streams: Vec<Stream>,
}

impl Everywhere {
    async fn open(nodes: [&Node; 2], token: String) -> anyhow::Result<Self> {
        let (mut sockets, mut streams) = (Vec::new(), Vec::new());
        for node in nodes {
            let mut socket = Socket::open_as(node.address(), &token).await?;
            let answer = socket.ask_for(join(None)).await?;
            ensure!(answer["t"] == "ok", "{answer}");
            sockets.push(socket);
            streams.push(Stream::open(node.address(), "castle", &token, None).await?);
        }
        Ok(Self {
            token,
            sockets,
            streams,
        })
    }

    /// All of them end at once, and none comes back.
    async fn revoked(
        &mut self,
        edge: &Edge,
        nodes: [&Node; 2],
        what: [&str; 2],
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        let (said, ended) = tokio::join!(revoke(edge, &[], what), self.are_ended());
        let elapsed = start.elapsed();
        ended?;
        assert!(said?.contains(what[1]));
        println!("revoke {what:?}: the last of 4 connections ended after {elapsed:?}");
        assert!(elapsed < AT_ONCE, "{elapsed:?}");
        self.cannot_come_back(edge, nodes).await
    }

    async fn are_ended(&mut self) -> anyhow::Result<()> {
        for socket in &mut self.sockets {
            let (code, before) = socket.end().await?;
            assert_eq!(code, 4401);
            let bye = before.last().map(|frame| &frame["t"]);
            assert_eq!(bye, Some(&json!("bye")));
        }
        for stream in &mut self.streams {
            stream.until("a bye", |sent| sent.event == "bye").await?;
            assert_eq!(stream.next().await?, None);
        }
        Ok(())
    }

    async fn cannot_come_back(&self, edge: &Edge, nodes: [&Node; 2]) -> anyhow::Result<()> {
        for node in nodes {
            let mut socket = Socket::open_as(node.address(), &self.token).await?;
            assert_eq!(socket.end().await?.0, 4401);
            let mut stream = Stream::open(node.address(), "castle", &self.token, None).await?;
            let told = stream.until("why", |sent| sent.event == "error").await?;
            assert_eq!(told.data["code"], "auth");
            let events = node.url("/v1/stories/castle/events");
            let page = edge.client.get(events).bearer_auth(&self.token);
            assert_eq!(page.send().await?.status(), 401);
        }
        Ok(())
    }
}

async fn revoke(edge: &Edge, options: &[&str], what: [&str; 2]) -> anyhow::Result<String> {
    let redis = edge.stack.redis_url();
    let words = ["--redis", &redis, "revoke", what[0], what[1], "--for", "2h"];
    command::says(edge.folder.path(), &[options, &words].concat()).await
}

fn token(issuer: &Issuer, sub: &str, jti: Option<&str>) -> anyhow::Result<String> {
    let stories = &[("castle", Role::Author)];
    issuer.token(&Person {
        jti,
        ..Person::new(sub, stories)
    })
}

#[tokio::test]
async fn a_revocation_by_jti_and_one_by_sub_end_connections_on_both_nodes_at_once()
-> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let other = edge.another().await?;
    let nodes = [&edge.node, &other];
    let one = token(&edge.issuer, "mira", Some("one alone"))?;
    let mut one = Everywhere::open(nodes, one).await?;
    let rest = token(&edge.issuer, "mira", Some("another"))?;
    let mut rest = Everywhere::open(nodes, rest).await?;
    let mut oto = Everywhere::open(nodes, token(&edge.issuer, "oto", None)?).await?;
    one.revoked(&edge, nodes, ["--jti", "one alone"]).await?;
    let answer = rest.sockets[1].ask_for(publish("Still here")).await?;
    assert_eq!(answer["t"], "ok", "their other token is good");
    rest.revoked(&edge, nodes, ["--sub", "mira"]).await?;
    // Nobody else is disturbed, not even by what they read.
    let answer = oto.sockets[0].ask_for(publish("Hello?")).await?;
    assert_eq!(answer["t"], "ok");
    for stream in &mut oto.streams {
        stream
            .until("it", |sent| says(&sent.data, "Hello?"))
            .await?;
    }
    let said = revoke(&edge, &["--json"], ["--sub", "nobody"]).await?;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    let times = (said["at"].as_u64(), said["until"].as_u64());
    let (Some(at), Some(until)) = times else {
        anyhow::bail!("{said}");
    };
    assert_eq!((&said["sub"], until - at), (&json!("nobody"), 7_200));
    edge.stack.end().await;
    Ok(())
}
