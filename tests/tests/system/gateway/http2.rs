//! Stories over HTTP/2, as browsers have them under TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, ensure};
use gateway::auth::Role;
use http::{Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use system_tests::{Signal, eventually};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Edge;
use super::tls::{Files, start};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connection of a client that takes so many bytes of an answer unread.
struct Client {
    address: SocketAddr,
    requests: SendRequest<String>,
    connection: TaskTracker,
}

impl Client {
    async fn connect(files: &Files, address: SocketAddr, window: u32) -> anyhow::Result<Self> {
        let stream = files.connect(address, &["h2", "http/1.1"]).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice()));
        let mut builder = Builder::new(TokioExecutor::new());
        let builder = builder.initial_stream_window_size(window);
        let (requests, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(connection);
        tasks.close();
        Ok(Self {
            address,
            requests,
            connection: tasks,
        })
    }

    async fn get(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Incoming>> {
        let uri = format!("https://{}{path}", self.address);
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.requests.send_request(request.body(String::new())?);
        let response = timeout(DEADLINE, answer).await??;
        assert_eq!(response.version(), Version::HTTP_2);
        Ok(response)
    }

    async fn stream(&mut self, token: &str, headers: &[(&str, &str)]) -> anyhow::Result<Reader> {
        let bearer = format!("Bearer {token}");
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        let response = self.get("/v1/stories/castle/stream", &headers).await?;
        ensure!(response.status() == 200, "{response:?}");
        Ok(Reader {
            body: response.into_body(),
            text: String::new(),
        })
    }
}

/// The events of an answer.
struct Reader {
    body: Incoming,
    text: String,
}

impl Reader {
    /// The next of those in which this is.
    async fn until(&mut self, part: &str) -> anyhow::Result<String> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.contains(part) {
                    return Ok(event);
                }
            }
            ensure!(self.more().await?, "the stream ended before {part}");
        }
    }

    /// Whether there was more.
    async fn more(&mut self) -> anyhow::Result<bool> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut self.body).poll_frame(context));
        let Some(frame) = timeout(DEADLINE, frame).await? else {
            return Ok(false);
        };
        let bytes = frame?.into_data().unwrap_or_default();
        self.text.push_str(std::str::from_utf8(&bytes)?);
        Ok(true)
    }
}

fn id(event: &str) -> anyhow::Result<&str> {
    let mut lines = event.lines();
    lines
        .find_map(|line| line.strip_prefix("id: "))
        .context("an id")
}

fn reader(edge: &Edge, sub: &str) -> anyhow::Result<String> {
    edge.token(sub, Role::Reader)
}

#[tokio::test]
async fn a_stream_over_http2_resumes_where_it_was() -> anyhow::Result<()> {
    let (edge, node, files) = start(&["--hsts", "365d"]).await?;
    let token = reader(&edge, "oren")?;
    let mut client = Client::connect(&files, node.address(), 65_535).await?;
    // Its own page is known by the authority: there is no Host.
    let own = format!("https://{}", node.address());
    let mut stream = client.stream(&token, &[("origin", &own)]).await?;
    edge.act("mira", "first").await?;
    let first = stream.until("first").await?;
    drop(stream);
    edge.act("mira", "second").await?;
    let last = [("last-event-id", id(&first)?)];
    let mut again = client.stream(&token, &last).await?;
    let next = again.until("\"seq\"").await?;
    assert!(next.contains("second"), "{next}");
    let other = [("origin", "https://evil.example")];
    let mut foreign = client.stream(&token, &other).await?;
    let told = foreign.until("event: error").await?;
    assert!(told.contains("forbidden"), "{told}");
    // The same connection has the pages, and says that they are to be had in no other way.
    let page = client.get("/", &[]).await?;
    assert_eq!(page.status(), 200);
    assert!(page.headers().contains_key("strict-transport-security"));
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_that_goes_ends_streams_of_http2_with_bye() -> anyhow::Result<()> {
    let (edge, mut node, files) = start(&["--drain", "4s"]).await?;
    let token = reader(&edge, "oren")?;
    let mut client = Client::connect(&files, node.address(), 65_535).await?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(client.stream(&token, &[]).await?);
    }
    edge.act("mira", "first").await?;
    for stream in &mut streams {
        stream.until("first").await?;
    }
    node.signal(Signal::TERM)?;
    for stream in &mut streams {
        let bye = stream.until("event: bye").await?;
        assert!(bye.contains("retry: "), "{bye}");
        while stream.more().await? {}
        assert_eq!(stream.text, "");
    }
    timeout(DEADLINE, client.connection.wait()).await?;
    let gone = eventually("the node ends", async || node.ended()).await?;
    assert!(gone.success(), "{gone}");
    assert!(!node.log()?.contains("the drain limit has passed"));
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_stream_of_http2_that_nobody_reads_frees_its_place_and_no_other_ends()
-> anyhow::Result<()> {
    let options = ["--stuck", "1s", "--ping", "1s", "--per-person", "1"];
    let (edge, node, files) = start(&options).await?;
    let (slow, other) = (reader(&edge, "slow")?, reader(&edge, "other")?);
    let mut client = Client::connect(&files, node.address(), 200).await?;
    let mut read = client.stream(&other, &[]).await?;
    // Nobody takes more of it than its window; its connection is read all the time.
    let _unread = client.stream(&slow, &[]).await?;
    let mut second = Client::connect(&files, node.address(), 65_535).await?;
    let refused = second.stream(&slow, &[]).await?.until("event: error").await;
    assert!(refused?.contains("too_many"));
    let text = "x".repeat(2_000);
    edge.act("mira", &text).await?;
    read.until(&text).await?;
    eventually("its place is free", async || {
        let mut again = second.stream(&slow, &[]).await?;
        let event = again.until("event: ").await?;
        Ok((!event.contains("too_many")).then_some(()))
    })
    .await?;
    edge.act("mira", "last").await?;
    read.until("last").await?;
    edge.stack.end().await;
    Ok(())
}

/// The first of a stream that is let in, and what one is told that is not.
async fn asks(client: &mut Client, token: &str, headers: &[(&str, &str)]) -> anyhow::Result<Asked> {
    let mut stream = client.stream(token, headers).await?;
    let first = stream.until("event: ").await?;
    Ok(match first.contains("event: error") {
        true => Asked::Refused(first),
        false => Asked::In(stream),
    })
}

enum Asked {
    In(Reader),
    Refused(String),
}

impl Asked {
    fn let_in(self) -> anyhow::Result<Reader> {
        match self {
            Self::In(stream) => Ok(stream),
            Self::Refused(told) => anyhow::bail!("it is refused: {told}"),
        }
    }

    fn refused(self, code: &str) -> anyhow::Result<()> {
        match self {
            Self::Refused(told) if told.contains(code) => Ok(()),
            Self::Refused(told) => anyhow::bail!("not for {code}: {told}"),
            Self::In(_) => anyhow::bail!("it is in"),
        }
    }
}

#[tokio::test]
async fn streams_of_one_connection_count_as_as_many_connections_of_its_address()
-> anyhow::Result<()> {
    let (edge, node, files) = start(&["--per-address", "3"]).await?;
    let token = reader(&edge, "oren")?;
    let mut client = Client::connect(&files, node.address(), 65_535).await?;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(asks(&mut client, &token, &[]).await?.let_in()?);
    }
    for _ in 0..3 {
        let fourth = asks(&mut client, &token, &[]).await?;
        fourth.refused("\"too_many\"")?;
    }
    let another = Client::connect(&files, node.address(), 65_535).await;
    ensure!(another.is_err(), "one more connection");
    // What is no stream is none, and those that there are feel nothing.
    assert_eq!(client.get("/", &[]).await?.status(), 200);
    edge.act("mira", "first").await?;
    for stream in &mut streams {
        stream.until("first").await?;
    }
    drop(streams.pop());
    eventually("there is room again", async || {
        Ok(Client::connect(&files, node.address(), 65_535).await.ok())
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn streams_of_one_connection_leave_room_for_other_connections() -> anyhow::Result<()> {
    let (edge, node, files) = start(&["--connections", "4"]).await?;
    let token = reader(&edge, "oren")?;
    let mut first = Client::connect(&files, node.address(), 65_535).await?;
    let mut streams = Vec::new();
    let told = loop {
        match asks(&mut first, &token, &[]).await? {
            Asked::In(stream) => streams.push(stream),
            Asked::Refused(told) => break told,
        }
        ensure!(streams.len() <= 4, "more than there is room for");
    };
    ensure!(
        told.contains("\"unavailable\"") && told.contains("\"after_ms\":"),
        "{told}"
    );
    // The last place is for who comes next, who has a stream as anybody has.
    assert_eq!(streams.len(), 3);
    let mut second = Client::connect(&files, node.address(), 65_535).await?;
    let _other = asks(&mut second, &token, &[]).await?.let_in()?;
    let more = asks(&mut second, &token, &[]).await?;
    more.refused("\"unavailable\"")?;
    drop(streams);
    eventually("there is room again", async || {
        Ok(asks(&mut second, &token, &[]).await?.let_in().ok())
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn streams_that_a_trusted_proxy_brings_on_one_connection_count_for_whom_it_names()
-> anyhow::Result<()> {
    let options = ["--per-address", "2", "--trusted-proxy", "127.0.0.1"];
    let (edge, node, files) = start(&options).await?;
    let token = reader(&edge, "oren")?;
    let mut client = Client::connect(&files, node.address(), 65_535).await?;
    let mut streams = Vec::new();
    for named in ["198.51.100.1", "198.51.100.2"] {
        let from = [("x-forwarded-for", named)];
        for _ in 0..2 {
            streams.push(asks(&mut client, &token, &from).await?.let_in()?);
        }
        let third = asks(&mut client, &token, &from).await?;
        third.refused("\"too_many\"")?;
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_socket_that_is_asked_for_over_http2_is_told_the_version_that_it_needs()
-> anyhow::Result<()> {
    let (edge, node, files) = start(&[]).await?;
    let token = reader(&edge, "oren")?;
    let bearer = format!("Bearer {token}");
    let mut client = Client::connect(&files, node.address(), 65_535).await?;
    let asked = [
        ("authorization", bearer.as_str()),
        ("sec-websocket-version", "13"),
    ];
    for headers in [&[][..], &asked] {
        let response = client.get("/v1/ws", headers).await?;
        assert_eq!(response.status(), 400);
        let kind = response.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json");
        let mut body = Reader {
            body: response.into_body(),
            text: String::new(),
        };
        while body.more().await? {}
        let problem: serde_json::Value = serde_json::from_str(&body.text)?;
        assert_eq!(problem["code"], "websocket_needs_http1", "{problem}");
        let words = problem["detail"].as_str().context("words")?;
        ensure!(words.contains("HTTP/1.1"), "{problem}");
    }
    edge.stack.end().await;
    Ok(())
}
