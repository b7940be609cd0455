//! A log that lacks an event (its count was ahead once, or somebody destroyed one), and one that cannot be read.

use anyhow::{Context, ensure};
use gateway::auth::Role;
use serde_json::{Value, json};
use story::Policies;
use system_tests::edge::{Node, Person, Socket};

use super::{Edge, join, says};

/// What comes of the log up to these words, as `gap` or the words.
async fn up_to(socket: &mut Socket, words: &str) -> anyhow::Result<Vec<String>> {
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != words) {
        let of_log = |frame: &Value| frame["t"] == "gap" || frame["t"] == "event";
        let frame = socket.until(words, of_log).await?;
        let text = frame["event"]["text"].as_str();
        told.push(text.unwrap_or("gap").to_owned());
        ensure!(told.len() < 20, "no end: {told:?}");
    }
    Ok(told)
}

async fn reader(edge: &Edge, node: &Node, cursor: Option<&str>) -> anyhow::Result<Socket> {
    let token = edge.token("oren", Role::Reader)?;
    let mut socket = Socket::open_as(node.address(), &token).await?;
    assert_eq!(socket.ask_for(join(cursor)).await?["t"], "ok");
    Ok(socket)
}

#[tokio::test]
async fn a_hole_in_the_log_is_told_once_to_whoever_was_before_it() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut mira = edge.joined("mira", None).await?;
    edge.act("mira", "first").await?;
    let place = mira.until("a place", |frame| says(frame, "first")).await?;
    let place = place["cursor"].as_str();
    let ahead = ["HINCRBY", "sf:{0}:ctx:castle", "seq", "1"];
    edge.stack.redis(&ahead).await?;
    edge.act("mira", "second").await?;
    assert_eq!(up_to(&mut mira, "second").await?, ["gap", "second"]);
    let another = edge.another().await?;
    for (node, words) in [(&edge.node, "third"), (&another, "fourth")] {
        let mut back = reader(&edge, node, place).await?;
        let told = up_to(&mut back, "second").await?;
        assert_eq!(told, ["gap", "second"], "{words}");
        let mut new = reader(&edge, node, None).await?;
        let told = up_to(&mut new, "second").await?;
        assert_eq!(told, ["second"], "{words}");
        edge.act("mira", words).await?;
        for reader in [&mut mira, &mut back, &mut new] {
            let told = up_to(reader, words).await?;
            assert!(!told.contains(&"gap".to_owned()), "{words}: {told:?}");
        }
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_story_that_cannot_be_read_ends_and_the_others_of_its_readers_go_on() -> anyhow::Result<()>
{
    let edge = Edge::start(&[]).await?;
    let tower = edge.stack.story("tower", Policies::default()).await?;
    let both = [("castle", Role::Author), ("tower", Role::Author)];
    let token = edge.issuer.token(&Person::new("mira", &both))?;
    let mut mira = Socket::open_as(edge.address(), &token).await?;
    let mut stream = edge.stream("oren", None).await?;
    for story in ["castle", "tower"] {
        let join = json!({"t": "join", "story": story});
        assert_eq!(mira.ask_for(join).await?["t"], "ok");
    }
    edge.act("mira", "first").await?;
    mira.until("it", |frame| says(frame, "first")).await?;
    stream.until("it", |sent| says(&sent.data, "first")).await?;
    // No place that an event can have, and a reason to read it.
    let entry = ["XADD", "sf:{0}:log:castle", "9-1", "e", "{}"];
    edge.stack.redis(&entry).await?;
    edge.stack
        .redis(&["CLIENT", "KILL", "TYPE", "pubsub"])
        .await?;
    let out = mira
        .until("the end of it", |frame| frame["t"] == "err")
        .await?;
    assert_eq!(
        (&out["story"], &out["code"]),
        (&json!("castle"), &json!("unavailable"))
    );
    let is_later = |after: &Value| {
        after
            .as_u64()
            .is_some_and(|ms| (2_500..=5_000).contains(&ms))
    };
    assert!(is_later(&out["after_ms"]), "{out}");
    let bye = stream
        .until("the end of it", |sent| sent.event == "bye")
        .await?;
    assert!(is_later(&bye.data["after_ms"]), "{bye:?}");
    edge.stack.act(&tower, "a1", "I climb.").await?;
    mira.until("the other", |frame| says(frame, "I climb."))
        .await?;
    edge.stack.end().await;
    Ok(())
}

/// Has Redis remember what it is asked from now on.
async fn remember(edge: &Edge) -> anyhow::Result<()> {
    for setting in [
        ["slowlog-max-len", "10000"],
        ["slowlog-log-slower-than", "0"],
    ] {
        let words = [&["CONFIG", "SET"], &setting[..]].concat();
        edge.stack.redis(&words).await?;
    }
    Ok(())
}

/// How often the log was read from its first event on.
async fn reads(edge: &Edge) -> anyhow::Result<u64> {
    let script = "local reads = 0
        for _, asked in ipairs(redis.call('SLOWLOG', 'GET', -1)) do
            local name, key, from = unpack(asked[4])
            if name == 'XRANGE' and key == 'sf:{0}:log:castle' and from == '1-0' then reads = reads + 1 end
        end
        return reads";
    let words = ["EVAL", script, "0"].map(str::as_bytes);
    let reads = edge.stack.redis.command(&words).await?;
    Ok(reads.trim_start_matches(':').parse()?)
}

#[tokio::test]
async fn many_whose_place_is_of_another_history_come_back_together_and_none_is_forgotten()
-> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    // More than a node remembers: whoever comes back to the first of them reads the log.
    for n in 0..150 {
        let id = format!("a{n}");
        edge.stack.act(&edge.story, &id, &id).await?;
    }
    let node = edge.another().await?;
    let mut first = reader(&edge, &node, None).await?;
    let last = first.until("all", |frame| says(frame, "a149")).await?;
    let epoch = last["cursor"].as_str().context("a cursor")?.split('-');
    let nowhere = format!("{}-1-zzzz", epoch.take(1).collect::<String>());
    let mut readers = Vec::new();
    for _ in 0..20 {
        readers.push(reader(&edge, &node, None).await?);
    }
    let leave = json!({"t": "leave", "story": "castle"});
    for reader in &mut readers {
        assert_eq!(reader.ask_for(leave.clone()).await?["t"], "ok");
    }
    remember(&edge).await?;
    for (n, reader) in readers.iter_mut().enumerate() {
        // For each of another life of the log the story is read again: who comes from the log meanwhile waits for that.
        let place = if n % 2 == 0 {
            "another-1-zzzz"
        } else {
            &nowhere
        };
        reader.say(&join(Some(place))).await?;
    }
    for reader in &mut readers {
        let gap = reader.until("a gap", |frame| frame["t"] == "gap").await?;
        let of_log = |frame: &Value| frame["t"] == "gap" || frame["t"] == "live";
        let next = reader.until("all there is", of_log).await?;
        assert_eq!(next["t"], "live", "{gap}");
    }
    // Who was found to be of another history is not looked for in the log again.
    assert_eq!(reads(&edge).await?, 10);
    edge.stack.end().await;
    Ok(())
}
