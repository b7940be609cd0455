//! Bad input of every kind, sent while an answer streams: each has its code and words that help, and those who read the
//! same story, over both transports, have the answer whole.

use std::time::Duration;

use anyhow::{Context, ensure};
use gateway::auth::{COOKIE, Role};
use serde_json::{Value, json};
use story::{Agent, Policies};
use system_tests::Options;
use system_tests::edge::{Person, Socket, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::bytes::{BINARY, CLOSE, Raw, TEXT, frame};
use super::undisturbed::Undisturbed;
use super::{Edge, is_of_story, join, publish, says};

const FIN: u8 = 0x80;
const ORIGIN: &str = "https://app.example";
/// More than a client has any use for.
const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

#[tokio::test]
async fn bad_input_has_its_answer_and_disturbs_no_reader() -> anyhow::Result<()> {
    let words: String = (0..150).map(|n| format!("w{n} é ")).collect();
    let answer = format!("{words}.\n@@@\n{{\"choices\":[],\"speak\":[]}}");
    let answer = serde_json::to_string(&answer)?;
    let model = Options {
        scenario: format!("rules:\n- when: {{endpoint: chat}}\n  reply: {{text: {answer}}}\n"),
        between_tokens: Duration::from_millis(35),
        ..Options::default()
    };
    let edge = Edge::start_with(model, &["--origin", ORIGIN]).await?;
    let tower = tower(&edge).await?;
    let _narrator = edge.stack.worker(Agent::Narrator)?;
    let (socket, mut stream) = (
        edge.joined("oren", None).await?,
        edge.stream("ada", None).await?,
    );
    edge.act("mira", "I look around").await?;
    stream
        .until("the action", |sent| says(&sent.data, "I look around"))
        .await?;
    let mut early = edge.joined("early", None).await?;
    early
        .until("the answer begins", |frame| frame["t"] == "delta")
        .await?;
    let start = Instant::now();
    let bad = async {
        messages(&edge).await.context("messages")?;
        frames(&edge).await.context("frames")?;
        cursors(&edge, &tower).await.context("cursors")?;
        bodies(&edge).await.context("bodies")?;
        tickets(&edge).await.context("tickets")?;
        origins(&edge).await.context("origins")?;
        flood(&edge).await.context("flood")?;
        println!("all of it took {:?}", start.elapsed());
        anyhow::Ok(Instant::now())
    };
    let (socket, stream) = (
        Undisturbed::default().over_socket(socket),
        Undisturbed::default().over_stream(stream),
    );
    let (end, over_socket, over_stream, ()) =
        tokio::try_join!(bad, socket, stream, slow_headers(&edge))?;
    let committed = over_socket.min(over_stream);
    ensure!(
        end < committed,
        "the answer was over before: {:?}",
        end - committed
    );
    edge.stack.end().await;
    Ok(())
}

/// A cursor of another story.
async fn tower(edge: &Edge) -> anyhow::Result<String> {
    edge.stack.story("tower", Policies::default()).await?;
    let person = Person::new("mira", &[("tower", Role::Author)]);
    let mut mira = Socket::open_as(edge.address(), &edge.issuer.token(&person)?).await?;
    mira.ask_for(json!({"t": "join", "story": "tower"})).await?;
    let event = json!({"mode": "do", "text": "I climb"});
    mira.ask_for(json!({"t": "publish", "story": "tower", "event": event}))
        .await?;
    let seen = mira.until("it", |frame| says(frame, "I climb")).await?;
    Ok(seen["cursor"].as_str().context("a cursor")?.to_owned())
}

/// What can be answered is, and the socket stays.
async fn messages(edge: &Edge) -> anyhow::Result<()> {
    let mut reader = Socket::open_as(edge.address(), &edge.token("rea", Role::Reader)?).await?;
    for (message, code, words) in [
        (
            json!({"t": "dance"}),
            "bad_message",
            "unknown variant `dance`, expected",
        ),
        (
            json!({"t": "join", "story": "tower"}),
            "forbidden",
            "your token does not let you read tower",
        ),
        (publish("I shout in"), "not_joined", "join it first"),
        (join(Some("yesterday")), "bad_cursor", "<epoch>-<seq>-<tag>"),
        (
            json!({"t": "join", "story": 5}),
            "bad_message",
            "expected a string",
        ),
        (join(None), "", ""),
        (
            publish("I may only read"),
            "forbidden",
            "does not let you write",
        ),
        (json!({"t": "auth", "token": "x"}), "auth", "token"),
    ] {
        let answer = reader.ask_for(message.clone()).await?;
        if code.is_empty() {
            ensure!(answer["t"] == "ok", "{answer}");
            continue;
        }
        let told = answer["message"].as_str().context("words")?;
        ensure!(
            answer["code"] == code && told.contains(words),
            "{message}: {answer}"
        );
    }
    ensure!(reader.ask_for(json!({"t": "ping"})).await?["t"] == "ok");
    Ok(())
}

/// What cannot be answered closes the socket.
async fn frames(edge: &Edge) -> anyhow::Result<()> {
    for (bytes, code, words) in [
        (
            frame(FIN | TEXT, b"hello"),
            4400,
            "JSON objects, one a line",
        ),
        (frame(FIN | BINARY, b"{}"), 4400, "JSON objects, one a line"),
        (
            frame(FIN | 0x40 | TEXT, b"{}"),
            1002,
            "use a client library",
        ),
        (frame(FIN | TEXT, b"\xff"), 1007, "UTF-8"),
        (
            frame(FIN | TEXT, &[b' '; 66_561]),
            1009,
            "66560 bytes: shorten it",
        ),
    ] {
        let mut raw = Raw::open(edge.address(), &edge.token("mallory", Role::Author)?).await?;
        raw.send(FIN | TEXT, br#"{"t":"join","story":"castle"}"#)
            .await?;
        raw.write(&bytes).await?;
        let payload = until_close(&mut raw).await?;
        let told = String::from_utf8_lossy(&payload[2..]);
        let closed = u16::from_be_bytes([payload[0], payload[1]]);
        ensure!(
            closed == code && told.contains(words),
            "{closed} {told}, not {code} {words}"
        );
    }
    // What comes after the head of such a frame is not read.
    let mut raw = Raw::open(edge.address(), &edge.token("mallory", Role::Author)?).await?;
    let huge = frame(FIN | TEXT, &vec![b' '; TEN_MEGABYTES]);
    ensure!(raw.write(&huge).await.is_err(), "10 MB were taken");
    ensure!(until_close(&mut raw).await?[..2] == 1009_u16.to_be_bytes());
    Ok(())
}

async fn until_close(raw: &mut Raw) -> anyhow::Result<Vec<u8>> {
    loop {
        let frame = raw.frame().await?;
        if frame.opcode == CLOSE {
            return Ok(frame.payload);
        }
    }
}

/// A cursor that is one, and of no place in this story: a gap, and all of it anew.
async fn cursors(edge: &Edge, tower: &str) -> anyhow::Result<()> {
    let mut mira = edge.joined("mira", None).await?;
    let here = mira
        .until("the action", |frame| says(frame, "I look around"))
        .await?;
    let here = here["cursor"].as_str().context("a cursor")?.to_owned();
    let [epoch, _, tag] = here.split('-').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{here}");
    };
    for cursor in [
        tower.to_owned(),
        format!("other-1-{tag}"),
        format!("{epoch}-999-{tag}"),
        format!("{epoch}-999-{tag}:r.1.5"),
        format!("{epoch}-18446744073709551615-{tag}"),
    ] {
        let mut socket = edge.joined("rea", Some(&cursor)).await?;
        let first = socket
            .until("a story", |frame| frame.get("cursor").is_some())
            .await?;
        ensure!(first["t"] == "gap", "{cursor}: {first}");
        socket
            .until("all of it", |frame| says(frame, "I look around"))
            .await?;
        let mut stream = edge.stream("rea", Some(&cursor)).await?;
        ensure!(
            stream.until("a story", is_of_story).await?.event == "gap",
            "{cursor}"
        );
        stream
            .until("all of it", |sent| says(&sent.data, "I look around"))
            .await?;
    }
    let bearer = format!("Bearer {}", edge.token("rea", Role::Reader)?);
    let twice = "/v1/stories/castle/stream?cursor=a&cursor=b";
    let mut stream = Stream::ask(edge.address(), twice, &[("authorization", &bearer)]).await?;
    in_band(&mut stream, "bad_request", "cursor").await
}

/// An error of a stream: with the status 200, since a browser comes back after no other.
async fn in_band(stream: &mut Stream, code: &str, words: &str) -> anyhow::Result<()> {
    let told = stream.until("an error", |_| true).await?;
    let message = told.data["message"].as_str().context("words")?;
    ensure!(
        stream.head.starts_with("http/1.1 200") && stream.retry.is_some(),
        "{}",
        stream.head
    );
    ensure!(
        told.event == "error" && told.data["code"] == code && message.contains(words),
        "{told:?}"
    );
    Ok(())
}

async fn bodies(edge: &Edge) -> anyhow::Result<()> {
    let url = edge.node.url("/v1/stories/castle/events");
    for (body, status, words) in [
        (
            "x".repeat(TEN_MEGABYTES),
            413,
            "at most 65536 bytes: shorten it",
        ),
        ("{\"mode\":".to_owned(), 400, "EOF"),
        (r#"{"mode":"fly"}"#.to_owned(), 400, "expected one of"),
    ] {
        let request = edge
            .client
            .post(&url)
            .bearer_auth(edge.token("mira", Role::Author)?);
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let response = request.send().await?;
        let (got, problem) = (response.status(), response.json::<Value>().await?);
        let told = problem["detail"].as_str().context("words")?;
        ensure!(got == status && told.contains(words), "{got}: {problem}");
    }
    Ok(())
}

async fn tickets(edge: &Edge) -> anyhow::Result<()> {
    let response = edge.post("mira", "/v1/tickets", &json!({})).await?;
    let ticket: Value = response.json().await?;
    let ticket = ticket["ticket"].as_str().context("a ticket")?;
    let path = format!("/v1/ws?ticket={ticket}");
    let (mut first, _) = Socket::ask(edge.address(), &path, &[]).await?;
    first
        .until("who it is", |frame| frame["t"] == "welcome")
        .await?;
    let (mut again, _) = Socket::ask(edge.address(), &path, &[]).await?;
    refused(&mut again, "ask for a new one").await?;
    let path = format!("/v1/stories/castle/stream?ticket={ticket}");
    let mut stream = Stream::ask(edge.address(), &path, &[]).await?;
    in_band(&mut stream, "auth", "ask for a new one").await?;
    // Whoever had it first goes on.
    ensure!(first.ask_for(json!({"t": "ping"})).await?["t"] == "ok");
    Ok(())
}

/// Over the socket, since a browser tells nothing of a handshake that failed.
async fn refused(socket: &mut Socket, words: &str) -> anyhow::Result<()> {
    turned_away(socket, (4401, "auth"), words).await
}

async fn turned_away(
    socket: &mut Socket,
    (close, class): (u16, &str),
    words: &str,
) -> anyhow::Result<()> {
    let (code, before) = socket.end().await?;
    let told = before.last().context("words")?;
    let message = told["message"].as_str().context("words")?;
    ensure!(
        code == close && told["code"] == class && message.contains(words),
        "{code}: {told}"
    );
    Ok(())
}

/// A cookie says nothing of whose page sent it.
async fn origins(edge: &Edge) -> anyhow::Result<()> {
    let cookie = format!("{COOKIE}={}", edge.token("mira", Role::Author)?);
    let bare = [("cookie", cookie.as_str())];
    let words = "or have the origin allowed";
    let closes = (4403, "forbidden");
    let mut socket = Socket::open(edge.address(), &bare).await?;
    turned_away(&mut socket, closes, words).await?;
    let path = "/v1/stories/castle/stream";
    in_band(
        &mut Stream::ask(edge.address(), path, &bare).await?,
        "auth",
        words,
    )
    .await?;
    let foreign = [
        ("cookie", cookie.as_str()),
        ("origin", "https://evil.example"),
    ];
    let mut socket = Socket::open(edge.address(), &foreign).await?;
    turned_away(&mut socket, closes, "--origin names those that may").await?;
    let mut stream = Stream::ask(edge.address(), path, &foreign).await?;
    in_band(&mut stream, "forbidden", "--origin names those that may").await
}

async fn flood(edge: &Edge) -> anyhow::Result<()> {
    let mut socket = edge.socket("mallory").await?;
    for _ in 0..100 {
        if socket.say(&join(None)).await.is_err() {
            break;
        }
    }
    let (code, before) = socket.end().await?;
    let told = before.last().context("words")?;
    ensure!(
        code == 4429 && told["code"] == "rate" && told["after_ms"].as_u64() > Some(0),
        "{code}: {told}"
    );
    Ok(())
}

/// A header a second, for ever: it is not waited for.
async fn slow_headers(edge: &Edge) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(edge.address()).await?;
        stream
            .write_all(b"GET /v1/stories/castle/stream HTTP/1.1\r\nhost: x\r\n")
            .await?;
        slow.push(stream);
    }
    while !slow.is_empty() {
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "{} are listened to",
            slow.len()
        );
        let mut stay = Vec::new();
        for mut stream in slow {
            let mut answer = [0; 64];
            let written = stream.write_all(b"x: y\r\n").await;
            let read = timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
            if written.is_ok() && read.is_err() {
                stay.push(stream);
            }
        }
        slow = stay;
    }
    ensure!(
        start.elapsed() > Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
