//! Who comes from elsewhere, or badly: tickets, foreign pages, those who are slow to speak and those who flood.

use std::time::Duration;

use anyhow::Context;
use gateway::auth::{COOKIE, Role};
use serde_json::{Value, json};
use system_tests::edge::{Socket, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::bytes::Raw;
use super::{Edge, join, says};

async fn ticket(edge: &Edge) -> anyhow::Result<String> {
    let response = edge.post("mira", "/v1/tickets", &json!({})).await?;
    assert_eq!(response.status(), 200);
    let ticket: Value = response.json().await?;
    assert_eq!(ticket["expires_in_ms"], 30_000);
    Ok(ticket["ticket"].as_str().context("a ticket")?.to_owned())
}

#[tokio::test]
async fn a_ticket_is_good_once_on_either_transport() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    edge.act("mira", "first").await?;
    let one = ticket(&edge).await?;
    let path = format!("/v1/stories/castle/stream?ticket={one}");
    let mut stream = Stream::ask(edge.address(), &path, &[]).await?;
    stream
        .until("the story", |sent| says(&sent.data, "first"))
        .await?;
    let mut again = Stream::ask(edge.address(), &path, &[]).await?;
    let told = again.until("an error", |_| true).await?;
    assert_eq!(
        (&*told.event, &told.data["code"]),
        ("error", &json!("auth"))
    );
    assert!(again.head.starts_with("http/1.1 200") && again.retry == Some(30_000));
    let (mut socket, _) = Socket::ask(edge.address(), &format!("/v1/ws?ticket={one}"), &[]).await?;
    let (code, before) = socket.end().await?;
    assert_eq!((code, &before[0]["code"]), (4401, &json!("auth")));

    let two = ticket(&edge).await?;
    let (mut socket, _) = Socket::ask(edge.address(), &format!("/v1/ws?ticket={two}"), &[]).await?;
    assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    let used = edge
        .client
        .get(edge.node.url(&format!("/v1/stories/castle?ticket={two}")));
    assert_eq!(used.send().await?.status(), 401);
    // A token has no place in a URL.
    let token = edge.token("mira", Role::Author)?;
    let path = format!("/v1/ws?token={token}");
    let (mut socket, _) = Socket::ask(edge.address(), &path, &[]).await?;
    assert_eq!(socket.end().await?.0, 4401);
    let log = edge.node.log()?;
    assert!(!log.contains(&two) && !log.contains(&token), "{log}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_foreign_page_with_a_cookie_gets_nowhere() -> anyhow::Result<()> {
    let edge = Edge::start(&["--origin", "https://app.example"]).await?;
    edge.act("mira", "first").await?;
    let token = edge.token("mira", Role::Author)?;
    let cookie = format!("{COOKIE}={token}");
    let foreign = [("origin", "https://evil.example"), ("cookie", &cookie)];
    let own = [("origin", "https://app.example"), ("cookie", &cookie)];
    let bare = [("cookie", cookie.as_str())];
    // A browser tells a page nothing of a handshake that failed, so it is told over the socket.
    let (code, before) = Socket::open(edge.address(), &foreign).await?.end().await?;
    assert_eq!((code, &before[0]["code"]), (4403, &json!("forbidden")));
    let words = before[0]["message"].as_str().context("words")?;
    assert!(before.len() == 1 && words.contains("--origin"), "{words}");
    let mut stream = Stream::ask(edge.address(), "/v1/stories/castle/stream", &foreign).await?;
    let told = stream.until("an error", |_| true).await?;
    assert_eq!(
        (&*told.event, &told.data["code"]),
        ("error", &json!("forbidden"))
    );
    // Without an Origin a cookie says nothing of who sent it.
    let (code, before) = Socket::open(edge.address(), &bare).await?.end().await?;
    assert_eq!((code, &before[0]["code"]), (4403, &json!("forbidden")));
    let mut stream = Stream::ask(edge.address(), "/v1/stories/castle/stream", &bare).await?;
    assert_eq!(
        stream.until("an error", |_| true).await?.data["code"],
        "auth"
    );
    let mut socket = Socket::open(edge.address(), &own).await?;
    assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    let mut stream = Stream::ask(edge.address(), "/v1/stories/castle/stream", &own).await?;
    stream
        .until("the story", |sent| says(&sent.data, "first"))
        .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_token_in_a_subprotocol_is_not_said_back() -> anyhow::Result<()> {
    use base64::Engine as _;

    let edge = Edge::start(&[]).await?;
    let token = edge.token("mira", Role::Author)?;
    let encoded = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(token);
    let offered = format!("storyfleet.v1, base64url.bearer.{encoded}");
    let headers = [("sec-websocket-protocol", offered.as_str())];
    let (mut socket, response) = Socket::ask(edge.address(), "/v1/ws", &headers).await?;
    assert_eq!(
        response.headers()["sec-websocket-protocol"],
        "storyfleet.v1"
    );
    assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn headers_that_do_not_end_are_not_waited_for() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut reader = edge.joined("oren", None).await?;
    let start = Instant::now();
    let mut slow = TcpStream::connect(edge.address()).await?;
    slow.write_all(b"GET /v1/stories/castle HTTP/1.1\r\nhost: x\r\n")
        .await?;
    let mut large = TcpStream::connect(edge.address()).await?;
    large
        .write_all(b"GET /v1/stories/castle HTTP/1.1\r\nhost: x\r\n")
        .await?;
    large
        .write_all(format!("x-long: {}\r\n\r\n", "y".repeat(64 * 1024)).as_bytes())
        .await?;
    let mut answer = vec![0; 64];
    let read = timeout(Duration::from_secs(5), large.read(&mut answer)).await??;
    let told = String::from_utf8_lossy(&answer[..read]);
    assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    let mut count = 0_u32;
    // A header a second, for ever.
    let ended = loop {
        count += 1;
        let written = slow.write_all(format!("x-{count}: y\r\n").as_bytes()).await;
        let read = timeout(Duration::from_secs(1), slow.read(&mut answer)).await;
        match (written, read) {
            (Ok(()), Err(_)) => assert!(count < 30, "it is still listened to"),
            _ => break start.elapsed(),
        }
    };
    assert!((9..20).contains(&ended.as_secs()), "{ended:?}");
    edge.act("mira", "all the same").await?;
    reader
        .until("it", |frame| says(frame, "all the same"))
        .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_flood_is_closed_and_nobody_else_feels_it() -> anyhow::Result<()> {
    let edge = Edge::start(&["--messages", "10"]).await?;
    let mut reader = edge.joined("oren", None).await?;
    for flood in [
        json!({"t": "ping"}),
        json!({"t": "join", "story": "castle"}),
        json!({"t": "publish", "story": "castle", "event": {"mode": "do", "text": "spam"}}),
    ] {
        let mut socket = edge.socket("mira").await?;
        for _ in 0..60 {
            if socket.say(&flood).await.is_err() {
                break;
            }
        }
        let (code, before) = socket.end().await?;
        let last = before.last().context("words")?;
        assert_eq!((code, &last["code"]), (4429, &json!("rate")), "{flood}");
        assert!(
            last["after_ms"]
                .as_u64()
                .is_some_and(|ms| (1..=1_000).contains(&ms)),
            "{last}"
        );
    }
    // As many as are allowed, and no more: a burst of 20.
    let mut within = edge.socket("ada").await?;
    for _ in 0..20 {
        within.say(&json!({"t": "ping", "ref": 1})).await?;
    }
    for _ in 0..20 {
        within
            .until("its answer", |frame| frame["t"] == "ok")
            .await?;
    }
    edge.act("mira", "quiet again").await?;
    reader
        .until("it", |frame| says(frame, "quiet again"))
        .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_socket_is_in_64_stories_and_not_in_65() -> anyhow::Result<()> {
    let edge = Edge::start(&["--messages", "1000"]).await?;
    let person = system_tests::edge::Person::new("mira", &[("*", Role::Reader)]);
    let mut socket = Socket::open_as(edge.address(), &edge.issuer.token(&person)?).await?;
    for n in 0..65 {
        let id = format!("room-{n}");
        edge.stack.story(&id, story::Policies::default()).await?;
        let answer = socket.ask_for(json!({"t": "join", "story": id})).await?;
        let expected = if n < 64 { "ok" } else { "err" };
        assert_eq!(answer["t"], expected, "{n}: {answer}");
    }
    socket
        .ask_for(json!({"t": "leave", "story": "room-0"}))
        .await?;
    assert_eq!(
        socket
            .ask_for(json!({"t": "join", "story": "room-64"}))
            .await?["t"],
        "ok"
    );
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_watches_so_many_stories_and_lets_go_of_those_that_nobody_reads()
-> anyhow::Result<()> {
    let edge = Edge::start(&["--stories", "2", "--messages", "1000"]).await?;
    let person = system_tests::edge::Person::new("mira", &[("*", Role::Reader)]);
    let token = edge.issuer.token(&person)?;
    let mut socket = Socket::open_as(edge.address(), &token).await?;
    let by = |verb: &str, id: &str| json!({"t": verb, "story": id});
    for n in 0..3 {
        let id = format!("room-{n}");
        edge.stack.story(&id, story::Policies::default()).await?;
    }
    for id in ["castle", "room-0"] {
        assert_eq!(socket.ask_for(by("join", id)).await?["t"], "ok", "{id}");
    }
    let refused = socket.ask_for(by("join", "room-1")).await?;
    assert_eq!(refused["code"], "unavailable", "{refused}");
    assert!(refused["after_ms"].is_u64(), "{refused}");
    let mut stream = Stream::open(edge.address(), "room-1", &token, None).await?;
    let told = stream
        .until("an error", |sent| sent.event == "error")
        .await?;
    assert_eq!(told.data["code"], "unavailable");
    // Whoever comes and goes takes the places of the stories that they left, and nobody else's.
    for round in 0..20 {
        socket
            .ask_for(by("leave", &format!("room-{}", round % 3)))
            .await?;
        let next = format!("room-{}", (round + 1) % 3);
        let answer = socket.ask_for(by("join", &next)).await?;
        assert_eq!(answer["t"], "ok", "{round}: {answer}");
    }
    edge.act("mira", "all the same").await?;
    socket
        .until("it", |frame| says(frame, "all the same"))
        .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    for (head, status) in [
        ("GET /v1/ws HTTP/1.1\r\nhost: x\r\n", "400"),
        (
            "POST /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
            "405",
        ),
        (
            "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "400",
        ),
        (
            "GET /v1/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
            "400",
        ),
    ] {
        let answer = Raw::answer(edge.address(), &format!("{head}\r\n")).await?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}: {answer}"
        );
    }
    edge.stack.end().await;
    Ok(())
}
