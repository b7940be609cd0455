//! How long a connection lives, and what ends it.

use std::time::Duration;

use anyhow::Context;
use gateway::auth::Role;
use serde_json::json;
use system_tests::edge::{Heard, Sent, Socket, Stream};
use system_tests::{Signal, eventually, free_address};
use tokio::time::{Instant, timeout};

use super::{Edge, join, publish, says};

/// As the token says, to the second.
const BRIEF: Duration = Duration::from_secs(3);
/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_socket_without_a_token_is_closed_after_five_seconds() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut socket = Socket::open(edge.address(), &[]).await?;
    let start = Instant::now();
    assert_eq!(socket.ask_for(join(None)).await?["code"], "auth");
    let (code, before) = socket.end().await?;
    assert_eq!(code, 4408);
    assert_eq!(before.last().context("a bye")?["t"], "bye");
    assert!(
        (4..8).contains(&start.elapsed().as_secs()),
        "{:?}",
        start.elapsed()
    );
    // Who says it in time is let in; a wrong token is the end.
    let mut socket = Socket::open(edge.address(), &[]).await?;
    let token = edge.token("mira", Role::Author)?;
    let answer = socket.ask_for(json!({"t": "auth", "token": token})).await?;
    assert_eq!(answer["t"], "ok");
    assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    for token in ["", "nonsense", &format!("{token}x")] {
        let mut socket = Socket::open(edge.address(), &[]).await?;
        let answer = socket.ask_for(json!({"t": "auth", "token": token})).await?;
        assert_eq!(answer["code"], "auth");
        assert_eq!(socket.end().await?.0, 4401);
        let (code, before) = Socket::open_as(edge.address(), &format!("{token}y"))
            .await?
            .end()
            .await?;
        assert_eq!((code, &before[0]["code"]), (4401, &json!("auth")));
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_connection_ends_with_its_token() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let token = edge.brief("mira", BRIEF)?;
    let mut socket = Socket::open_as(edge.address(), &token).await?;
    assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    let mut stream = Stream::open(edge.address(), "castle", &token, None).await?;
    let (code, before) = socket.end().await?;
    assert_eq!(
        (code, &before.last().context("a bye")?["t"]),
        (4401, &json!("bye"))
    );
    let bye = stream.until("its end", |sent| sent.event == "bye").await?;
    assert!(
        bye.data["reason"]
            .as_str()
            .is_some_and(|why| why.contains("token")),
        "{bye:?}"
    );
    assert_eq!(stream.next().await?, None);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_token_is_renewed_by_its_own_person_only() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let start = Instant::now();
    let token = edge.brief("mira", BRIEF)?;
    let mut socket = Socket::open_as(edge.address(), &token).await?;
    socket.ask_for(join(None)).await?;
    let renew = |token: String| json!({"t": "auth", "token": token});
    // Another's, a broken one and one that is over change nothing.
    let others = edge.token("oren", Role::Author)?;
    let answer = socket.ask_for(renew(others)).await?;
    assert_eq!(answer["code"], "auth", "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .is_some_and(|words| words.contains("somebody else"))
    );
    assert_eq!(socket.ask_for(renew("x".to_owned())).await?["code"], "auth");
    let mut renewed = Socket::open_as(edge.address(), &token).await?;
    renewed.ask_for(join(None)).await?;
    let own = edge.token("mira", Role::Author)?;
    assert_eq!(renewed.ask_for(renew(own)).await?["t"], "ok");
    let welcome = renewed
        .until("the new end", |frame| frame["t"] == "welcome")
        .await?;
    assert!(welcome["expires_at"].as_u64().context("seconds")? > 0);
    assert_eq!(socket.end().await?.0, 4401);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    // The one with a new token goes on, in its story.
    edge.act("oren", "still here?").await?;
    renewed
        .until("the story", |frame| says(frame, "still here?"))
        .await?;
    // A new token with fewer rights takes them away at once, also from what came with it.
    let reads = renew(edge.token("mira", Role::Reader)?);
    let types = json!({"t": "typing", "story": "castle", "ref": "t"});
    renewed.say_text(&format!("{reads}\n{types}")).await?;
    let told = renewed
        .until("an answer", |frame| frame["ref"] == "t")
        .await?;
    assert_eq!(told["code"], "forbidden", "{told}");
    let token = edge
        .issuer
        .token(&system_tests::edge::Person::new("mira", &[]))?;
    renewed.ask_for(renew(token)).await?;
    let told = renewed
        .until("out of it", |frame| frame["t"] == "err")
        .await?;
    assert_eq!(
        (&told["code"], &told["story"]),
        (&json!("forbidden"), &json!("castle"))
    );
    assert_eq!(
        renewed.ask_for(publish("Hello?")).await?["code"],
        "not_joined"
    );
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_that_goes_says_so_and_ends_in_time() -> anyhow::Result<()> {
    let mut edge = Edge::start(&["--drain", "4s"]).await?;
    let (mut sockets, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        sockets.push(edge.joined("mira", None).await?);
        streams.push(edge.stream("mira", None).await?);
    }
    edge.act("mira", "before").await?;
    let mut cursor = String::new();
    for socket in &mut sockets {
        let seen = socket.until("it", |frame| says(frame, "before")).await?;
        seen["cursor"]
            .as_str()
            .context("a cursor")?
            .clone_into(&mut cursor);
    }
    let start = Instant::now();
    edge.node.signal(Signal::TERM)?;
    let mut after = Vec::new();
    for socket in &mut sockets {
        let (code, before) = socket.end().await?;
        let bye = before.last().context("a bye")?;
        assert_eq!((code, &bye["t"]), (1012, &json!("bye")));
        after.push(bye["after_ms"].as_u64().context("after_ms")?);
    }
    for stream in &mut streams {
        let bye = stream.until("a bye", |sent| sent.event == "bye").await?;
        assert_eq!(stream.retry, bye.data["after_ms"].as_u64());
        after.push(stream.retry.context("a retry")?);
        assert_eq!(stream.next().await?, None);
    }
    assert!(after.iter().all(|ms| *ms <= 4_000), "{after:?}");
    let spread = after.iter().max().context("some")? - after.iter().min().context("some")?;
    assert!(spread > 500, "not at once: {after:?}");
    let gone = eventually("the node ends", async || edge.node.ended()).await?;
    assert!(
        gone.success() && start.elapsed() < Duration::from_secs(6),
        "{gone}"
    );
    // The cursor is good elsewhere.
    let other = edge.another().await?;
    let mut mira = Socket::open_as(other.address(), &edge.token("mira", Role::Author)?).await?;
    assert_eq!(mira.ask_for(join(Some(&cursor))).await?["t"], "ok");
    mira.ask_for(publish("after")).await?;
    let next = mira
        .until("more", |frame| frame.get("cursor").is_some())
        .await?;
    assert!(says(&next, "after"), "{next}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_written_as_the_node_goes_is_answered_before_the_bye() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut socket = edge.joined("mira", None).await?;
    edge.stack.signal_redis(Signal::STOP)?;
    let types = json!({"t": "typing", "story": "castle", "ref": "t"});
    let mut words = publish("I knock");
    words["ref"] = "w".into();
    socket.say_text(&format!("{types}\n{words}")).await?;
    // Both came in one frame: once the first is answered, the second is under way.
    socket
        .until("an answer", |frame| frame["ref"] == "t")
        .await?;
    edge.node.signal(Signal::TERM)?;
    eventually("the node goes", async || {
        Ok(edge.node.log()?.contains("asked to end").then_some(()))
    })
    .await?;
    edge.stack.signal_redis(Signal::CONT)?;
    let (code, before) = socket.end().await?;
    let bye = before.last().context("a bye")?;
    assert_eq!((code, &bye["t"]), (1012, &json!("bye")));
    let answer = before.iter().find(|frame| frame["ref"] == "w");
    assert_eq!(answer.context("an answer")?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn only_what_a_reader_is_there_for_counts_as_delivered_live() -> anyhow::Result<()> {
    let pages = free_address()?.to_string();
    let edge = Edge::start(&["--internal-listen", &pages]).await?;
    let counted = async || {
        let page = edge.client.get(format!("http://{pages}/metrics"));
        let page = page.send().await?.text().await?;
        let count = "storyfleet_gateway_fanout_seconds_count ";
        let mut counts = page.lines().filter_map(|line| line.strip_prefix(count));
        anyhow::Ok(counts.next().context("a count")?.parse::<u32>()?)
    };
    let mut writer = edge.joined("mira", None).await?;
    for n in 0..5 {
        let text = format!("step {n}");
        edge.act("mira", &text).await?;
        writer.until(&text, |frame| says(frame, &text)).await?;
    }
    // Those that came before it was in the story are none of them.
    let before = counted().await?;
    assert!((1..=5).contains(&before), "{before}");
    // Both are given all five again, each at once.
    let mut late = edge.joined("oren", None).await?;
    late.until("all", |frame| says(frame, "step 4")).await?;
    let mut stream = edge.stream("ada", None).await?;
    stream
        .until("all", |sent| says(&sent.data, "step 4"))
        .await?;
    assert_eq!(counted().await?, before);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whoever_stops_reading_is_let_go_of_and_loses_nothing() -> anyhow::Result<()> {
    let pages = free_address()?.to_string();
    let options = ["--messages", "10000", "--internal-listen", &pages];
    let edge = Edge::start(&options).await?;
    let let_go = async || {
        let page = edge.client.get(format!("http://{pages}/metrics"));
        let page = page.send().await?.text().await?;
        anyhow::Ok(page.contains(r#"closes_total{code="1013"} 1"#))
    };
    let mut slow = edge.joined("slow", None).await?;
    let mut other = edge.joined("other", None).await?;
    edge.act("mira", "first").await?;
    let seen = slow.until("it", |frame| says(frame, "first")).await?;
    let cursor = seen["cursor"].as_str().context("a cursor")?.to_owned();
    // From here on it reads nothing. More than all buffers on the way hold, and others see all of it at once.
    let (text, mut writer) = ("x".repeat(40_000), edge.joined("mira", None).await?);
    let (start, mut events) = (Instant::now(), 0);
    while !let_go().await? {
        assert!(start.elapsed() < DEADLINE, "it was not let go of");
        events += 1;
        let sent = Instant::now();
        is_seen_at_once(&mut writer, &mut other, &format!("{events} {text}")).await?;
        tokio::time::sleep_until(sent + Duration::from_millis(30)).await;
    }
    // It reads again, gets what was on the way, and then is told.
    let (mut place, mut last) = (1, cursor);
    let code = loop {
        match timeout(DEADLINE, slow.hear()).await? {
            Ok(Heard::Message(frame)) => {
                if let Some(seq) = frame["seq"].as_u64() {
                    assert_eq!(seq, place + 1);
                    place = seq;
                    frame["cursor"]
                        .as_str()
                        .context("a cursor")?
                        .clone_into(&mut last);
                }
            }
            Ok(Heard::Closed(code, _)) => break Some(code),
            Err(_) => break None,
        }
    };
    assert!(matches!(code, Some(1013) | None), "{code:?}");
    assert!(
        place < events,
        "{place} of {events} were on the way: nothing was held back"
    );
    let mut again = edge.socket("slow").await?;
    again.say(&join(Some(&last))).await?;
    while place < events + 1 {
        let frame = again
            .until("the rest", |frame| frame["t"] == "event")
            .await?;
        place += 1;
        assert_eq!(frame["seq"].as_u64(), Some(place));
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_stream_that_nobody_reads_frees_its_place_and_loses_nothing() -> anyhow::Result<()> {
    const EVENTS: u64 = 600;
    let options = ["--messages", "10000", "--per-person", "1", "--stuck", "2s"];
    let edge = Edge::start(&options).await?;
    let mut slow = edge.stream("slow", None).await?;
    let mut other = edge.joined("other", None).await?;
    edge.act("mira", "first").await?;
    let first = slow.until("it", |sent| says(&sent.data, "first")).await?;
    // From here on it reads nothing, and has the one place that it may have.
    let is_told = |sent: &Sent| sent.event == "error" || sent.data.get("seq").is_some();
    let again = async || {
        let mut again = edge.stream("slow", Some(&first.id)).await?;
        let next = again.until("anything", is_told).await?;
        anyhow::Ok((next.data["code"] != "too_many").then_some((again, next)))
    };
    assert!(again().await?.is_none(), "it had no place");
    // More than all buffers on the way hold, and fewer than a lane does that no worker reads.
    let (text, mut writer) = ("x".repeat(40_000), edge.joined("mira", None).await?);
    for event in 1..=EVENTS {
        is_seen_at_once(&mut writer, &mut other, &format!("{event} {text}")).await?;
    }
    let (mut again, next) = eventually("its place is free again", again).await?;
    assert_eq!(next.data["seq"], 2, "{}", next.event);
    for seq in 3..=EVENTS + 1 {
        let is_event = |sent: &Sent| sent.data.get("seq").is_some();
        let next = again.until("the rest", is_event).await?;
        assert_eq!(next.data["seq"], seq, "{}", next.event);
    }
    edge.stack.end().await;
    Ok(())
}

/// What one writes the other has within moments.
async fn is_seen_at_once(
    writer: &mut Socket,
    other: &mut Socket,
    text: &str,
) -> anyhow::Result<()> {
    let seen = async {
        let answer = writer.ask_for(publish(text)).await?;
        assert_eq!(answer["t"], "ok", "{answer}");
        let is_it = |frame: &serde_json::Value| frame["event"]["text"] == text;
        other.until("what the writer wrote", is_it).await
    };
    timeout(Duration::from_secs(2), seen).await??;
    Ok(())
}
