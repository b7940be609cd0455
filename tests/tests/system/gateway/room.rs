//! Who is in a story, and who types there, over two nodes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use gateway::auth::Role;
use serde_json::{Value, json};
use system_tests::edge::{Heard, Sent, Socket, Stream};
use system_tests::free_address;
use tokio::time::{Instant, timeout};

use super::{Edge, join, publish, says};

/// Longer than a node counts that is no more heard of, and than the next look at it.
const OVER: Duration = Duration::from_secs(50);

async fn joined(edge: &Edge, at: SocketAddr, sub: &str) -> anyhow::Result<Socket> {
    let mut socket = Socket::open_as(at, &edge.token(sub, Role::Author)?).await?;
    let answer = socket.ask_for(join(None)).await?;
    ensure!(answer["t"] == "ok", "{answer}");
    Ok(socket)
}

async fn stream(edge: &Edge, at: SocketAddr, sub: &str) -> anyhow::Result<Stream> {
    Stream::open(at, "castle", &edge.token(sub, Role::Reader)?, None).await
}

fn are_here(frame: &Value, subs: &[&str]) -> bool {
    let people = frame["people"].as_array().map(Vec::as_slice);
    let here: Vec<_> = people
        .unwrap_or_default()
        .iter()
        .map(|one| &one["sub"])
        .collect();
    frame["t"] == "presence" && here == subs && frame["count"] == subs.len()
}

/// Waits until a socket was told that these are here, in their order.
async fn sees(socket: &mut Socket, subs: &[&str]) -> anyhow::Result<Value> {
    socket
        .until(&format!("{subs:?}"), |frame| are_here(frame, subs))
        .await
}

async fn streams(stream: &mut Stream, subs: &[&str]) -> anyhow::Result<Sent> {
    let is_so = |sent: &Sent| sent.event == "presence" && are_here(&sent.data, subs);
    stream.until(&format!("{subs:?}"), is_so).await
}

/// The number of a metric of presence.
async fn counted(edge: &Edge, internal: &str, kind: &str) -> anyhow::Result<u64> {
    let page = edge.client.get(format!("http://{internal}/metrics"));
    let page = page.send().await?.text().await?;
    let name = format!("storyfleet_gateway_presence_total{{kind=\"{kind}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.unwrap_or("0").parse()?)
}

#[tokio::test]
async fn people_of_both_nodes_are_seen_on_both_and_leave() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let other = edge.another().await?;
    let (near, far) = (edge.address(), other.address());
    let mut mira = joined(&edge, near, "mira").await?;
    sees(&mut mira, &["mira"]).await?;
    let mut oto = stream(&edge, far, "oto").await?;
    let all = ["mira", "oto"];
    let frame = sees(&mut mira, &all).await?;
    assert_eq!(frame["people"][1]["name"], "oto");
    assert!(frame.get("cursor").is_none(), "{frame}");
    assert_eq!(
        streams(&mut oto, &all).await?.id,
        "",
        "no id, so that the cursor stays"
    );
    // Somebody who is there twice is there once, and told who is here when they come.
    let mut again = joined(&edge, far, "mira").await?;
    sees(&mut again, &all).await?;
    let mut more = stream(&edge, near, "ann").await?;
    let all = ["ann", "mira", "oto"];
    for socket in [&mut mira, &mut again] {
        sees(socket, &all).await?;
    }
    for stream in [&mut oto, &mut more] {
        streams(stream, &all).await?;
    }
    // One of two connections is no change; the last is.
    drop(mira);
    drop(more);
    sees(&mut again, &["mira", "oto"]).await?;
    again
        .ask_for(json!({"t": "leave", "story": "castle"}))
        .await?;
    streams(&mut oto, &["oto"]).await?;
    drop((oto, again));
    let story = &edge.story;
    system_tests::eventually("nobody is here", async || {
        let here = edge.stack.bus.who_is_here(story).await?;
        Ok((here.count == 0).then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_that_ends_takes_its_people_with_it_and_one_that_dies_does_in_time()
-> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let drains = edge.another_with(&["--drain", "1s"]).await?;
    let mut dies = edge.another().await?;
    let mut mira = joined(&edge, edge.address(), "mira").await?;
    let _ann = joined(&edge, drains.address(), "ann").await?;
    let _oto = joined(&edge, dies.address(), "oto").await?;
    sees(&mut mira, &["ann", "mira", "oto"]).await?;
    let asked = Instant::now();
    assert!(drains.end().await?.success());
    sees(&mut mira, &["mira", "oto"]).await?;
    println!(
        "a node that drained was gone {:?} after SIGTERM",
        asked.elapsed()
    );
    dies.kill().await?;
    let killed = Instant::now();
    timeout(OVER, sees(&mut mira, &["mira"])).await??;
    println!("a killed node was gone after {:?}", killed.elapsed());
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn presence_moves_no_cursor() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut socket = edge.joined("mira", None).await?;
    let mut stream = edge.stream("oto", None).await?;
    edge.act("mira", "before").await?;
    let seen = socket.until("it", |frame| says(frame, "before")).await?;
    let cursor = seen["cursor"].as_str().context("a cursor")?.to_owned();
    let sent = stream
        .until("it", |sent| says(&sent.data, "before"))
        .await?;
    assert_eq!(sent.id, cursor);
    let mut ann = edge.joined("ann", None).await?;
    sees(&mut socket, &["ann", "mira", "oto"]).await?;
    let here = streams(&mut stream, &["ann", "mira", "oto"]).await?;
    assert_eq!(here.id, cursor, "the place is that of the event before");
    drop((socket, stream));
    edge.act("mira", "after").await?;
    ann.until("it", |frame| says(frame, "after")).await?;
    // Both go on where they were: of the story the next thing is what they missed.
    let mut socket = edge.joined("mira", Some(&cursor)).await?;
    let mut stream = edge.stream("oto", Some(&here.id)).await?;
    let next = socket
        .until("more", |frame| frame.get("cursor").is_some())
        .await?;
    assert!(says(&next, "after"), "{next}");
    let next = stream
        .until("more", |sent| sent.data.get("cursor").is_some())
        .await?;
    assert!(says(&next.data, "after"), "{next:?}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn three_hundred_who_join_at_once_are_told_of_in_a_few_messages() -> anyhow::Result<()> {
    let pages = free_address()?.to_string();
    let edge = Edge::start(&["--internal-listen", &pages]).await?;
    let other = edge.another().await?;
    let mut first = joined(&edge, other.address(), "first").await?;
    sees(&mut first, &["first"]).await?;
    let start = Instant::now();
    let subs: Vec<_> = (0..300).map(|i| format!("p{i:03}")).collect();
    let mut sockets = Vec::new();
    for some in subs.chunks(50) {
        let at = edge.address();
        let some = some.iter().map(|sub| joined(&edge, at, sub));
        sockets.extend(try_join_all(some).await?);
    }
    let joined_in = start.elapsed();
    let mut messages = 0;
    let all = async {
        loop {
            let Heard::Message(frame) = first.hear().await? else {
                anyhow::bail!("closed");
            };
            if frame["t"] == "presence" {
                messages += 1;
                assert!(frame["people"].as_array().context("people")?.len() <= 100);
            }
            if frame["count"] == 301 {
                return anyhow::Ok(());
            }
        }
    };
    timeout(OVER, all).await??;
    let seconds = start.elapsed().as_secs() + 1;
    let writes = counted(&edge, &pages, "write").await?;
    println!("300 joined in {joined_in:?}: {messages} messages and {writes} writes in {seconds} s");
    assert!(messages <= seconds + 1, "{messages} in {seconds} s");
    assert!(writes <= seconds + 1, "{writes} in {seconds} s");
    // The last who came was told, too, though nobody else came after.
    let last = sockets.last_mut().context("a socket")?;
    last.until("all", |frame| frame["count"] == 301).await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn while_redis_is_away_who_is_here_is_old_and_nothing_is_said_twice() -> anyhow::Result<()> {
    let mut edge = Edge::start(&[]).await?;
    let mut mira = edge.joined("mira", None).await?;
    sees(&mut mira, &["mira"]).await?;
    edge.stack.kill_redis().await?;
    let hints = ["typing", "ping", "typing", "ping"];
    for kind in hints {
        let message = json!({"t": kind, "story": "castle"});
        assert_eq!(mira.ask_for(message).await?["t"], "ok");
    }
    let warns = |log: &str| log.matches("who is in a story is not known").count();
    system_tests::eventually("a word of it", async || {
        Ok((warns(&edge.node.log()?) > 0).then_some(()))
    })
    .await?;
    edge.stack.tried(3).await?;
    assert_eq!(warns(&edge.node.log()?), 1, "{}", edge.node.log()?);
    edge.stack.resume_redis().await?;
    let mut oto = edge.joined("oto", None).await?;
    for socket in [&mut mira, &mut oto] {
        sees(socket, &["mira", "oto"]).await?;
    }
    assert_eq!(warns(&edge.node.log()?), 1, "{}", edge.node.log()?);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn others_are_told_who_types_and_who_types_is_not() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let other = edge.another().await?;
    let (near, far) = (edge.address(), other.address());
    let mut mira = joined(&edge, near, "mira").await?;
    let mut oto = joined(&edge, far, "oto").await?;
    let mut ann = stream(&edge, far, "ann").await?;
    let all = ["ann", "mira", "oto"];
    sees(&mut mira, &all).await?;
    sees(&mut oto, &all).await?;
    let typing = json!({"t": "typing", "story": "castle", "sub": "oto", "name": "Oto"});
    assert_eq!(mira.ask_for(typing.clone()).await?["t"], "ok");
    let told = oto
        .until("who types", |frame| frame["t"] == "typing")
        .await?;
    let wanted = json!({"t": "typing", "story": "castle", "sub": "mira", "name": "mira"});
    assert_eq!(told, wanted);
    let sent = ann
        .until("who types", |sent| sent.event == "typing")
        .await?;
    assert_eq!((&sent.data, sent.id.as_str()), (&wanted, ""));
    // Over HTTP too; a reader may not.
    let path = "/v1/stories/castle/typing";
    assert_eq!(edge.post("oto", path, &json!({})).await?.status(), 204);
    let heard = mira
        .until("who types", |frame| frame["t"] == "typing")
        .await?;
    assert_eq!(heard["sub"], "oto", "nobody hears of themselves");
    let reader = edge.token("ann", Role::Reader)?;
    let refused = edge
        .client
        .post(other.url(path))
        .bearer_auth(&reader)
        .send()
        .await?;
    assert_eq!(refused.status(), 403);
    let mut silent = Socket::open_as(near, &reader).await?;
    silent.ask_for(join(None)).await?;
    assert_eq!(silent.ask_for(typing).await?["code"], "forbidden");
    // Nothing of it is in the story.
    mira.ask_for(publish("Hello")).await?;
    let first = oto
        .until("it", |frame| frame.get("cursor").is_some())
        .await?;
    assert!(says(&first, "Hello"), "{first}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn where_presence_is_off_nobody_is_told_who_is_here() -> anyhow::Result<()> {
    let edge = Edge::start(&["--presence", "off"]).await?;
    let mut mira = edge.joined("mira", None).await?;
    let mut oto = edge.joined("oto", None).await?;
    let typing = json!({"t": "typing", "story": "castle"});
    assert_eq!(mira.ask_for(typing).await?["t"], "ok");
    assert_eq!(
        edge.post("mira", "/v1/stories/castle/typing", &json!({}))
            .await?
            .status(),
        204
    );
    mira.ask_for(publish("Hello")).await?;
    for socket in [&mut mira, &mut oto] {
        let is_news = |frame: &Value| frame["t"] != "welcome" && frame["t"] != "live";
        let first = socket.until("anything", is_news).await?;
        assert!(says(&first, "Hello"), "{first}");
    }
    assert_eq!(edge.stack.bus.who_is_here(&edge.story).await?.count, 0);
    edge.stack.end().await;
    Ok(())
}
