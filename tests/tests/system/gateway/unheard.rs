//! A story that Redis made, and whose connection broke before it said so.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use gateway::auth::Role;
use serde_json::{Value, json};
use system_tests::edge::{Node, Person};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Edge;

/// Carries what is said to Redis and what it answers. The reply to what names the story is lost once, with its connection.
async fn carry(mut near: TcpStream, redis: u16, lost: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, redis)).await?;
    let (mut said, mut told) = ([0; 4_096], [0; 4_096]);
    loop {
        tokio::select! {
            bytes = near.read(&mut said) => {
                let bytes = &said[..bytes?];
                if bytes.is_empty() {
                    return Ok(());
                }
                far.write_all(bytes).await?;
                let is_it = bytes.windows(9).any(|word| word == b"ctx:tower");
                if is_it && !lost.swap(true, Ordering::SeqCst) {
                    return far.read(&mut told).await.map(drop);
                }
            }
            bytes = far.read(&mut told) => {
                let bytes = &told[..bytes?];
                if bytes.is_empty() {
                    return Ok(());
                }
                near.write_all(bytes).await?;
            }
        }
    }
}

#[tokio::test]
async fn a_story_whose_making_was_not_heard_of_is_told_without_a_read() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let url = edge.stack.redis_url();
    let port = url.rsplit(':').next().context("a port")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let way = format!("redis://{}", listener.local_addr()?);
    let lost = Arc::<AtomicBool>::default();
    let (mut carriers, is_lost) = (JoinSet::new(), Arc::clone(&lost));
    carriers.spawn(async move {
        let mut ways = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            ways.spawn(carry(near, port, Arc::clone(&is_lost)));
        }
    });
    let node = Node::start(&way, edge.folder.path(), &[]).await?;
    // Whatever has to be read of a story fails.
    let user = ["ACL", "SETUSER", "default"];
    edge.stack
        .redis(&[&user[..], &["-hgetall"]].concat())
        .await?;
    let owner = Person::new("mira", &[("*", Role::Owner)]);
    let request = edge.client.post(node.url("/v1/stories"));
    let request = request.bearer_auth(edge.issuer.token(&owner)?);
    let response = request.json(&json!({"id": "tower", "title": "The tower"}));
    let response = response.send().await?;
    let (status, made) = (response.status(), response.json::<Value>().await?);
    edge.stack
        .redis(&[&user[..], &["+hgetall"]].concat())
        .await?;
    assert!(lost.load(Ordering::SeqCst));
    assert_eq!(status, 201, "{made}");
    let known = edge.client.get(node.url("/v1/stories/tower"));
    let known = known.bearer_auth(edge.issuer.token(&owner)?).send().await?;
    assert_eq!(made, known.json::<Value>().await?);
    edge.stack.end().await;
    Ok(())
}
