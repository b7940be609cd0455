//! What one person and one address may do: up to there all of it, beyond it a refusal that says when, and nobody else feels it.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use futures::future::join_all;
use gateway::auth::Role;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use system_tests::edge::{Socket, Stream};
use system_tests::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Edge, join, publish};

const BAD: &str = "no.good.token";
/// So few that one comes back only after 20 s.
const FEW: [&str; 2] = ["--failures", "3"];

#[tokio::test]
async fn a_person_asks_as_often_as_they_may_over_whatever() -> anyhow::Result<()> {
    let edge = Edge::start(&["--requests", "1"]).await?;
    for _ in 0..2 {
        assert_eq!(edge.page("mira", "").await?.status(), StatusCode::OK);
    }
    let after = spent(&edge).await?;
    ensure!((1..=1_000).contains(&after), "{after}");
    // On a slow machine there may be another one by the time that it is asked for.
    eventually("no socket", async || {
        spent(&edge).await?;
        let mut socket = edge.socket("mira").await?;
        let told = socket.until("words", |frame| frame["t"] != "ok").await?;
        if told["t"] == "welcome" {
            return Ok(None);
        }
        assert_eq!(told["code"], "rate", "{told}");
        assert_eq!(socket.end().await?.0, 4429);
        Ok(Some(()))
    })
    .await?;
    let sent = eventually("no stream", async || {
        spent(&edge).await?;
        let mut stream = edge.stream("mira", None).await?;
        let sent = stream.until("words", |_| true).await?;
        if sent.event != "error" {
            return Ok(None);
        }
        assert_eq!(sent.data["code"], "rate");
        assert_eq!(stream.retry, sent.data["after_ms"].as_u64());
        Ok(Some(sent))
    })
    .await?;
    // Others are others, and a moment later it is good again.
    assert_eq!(edge.page("oren", "").await?.status(), StatusCode::OK);
    ensure!(sent.data["after_ms"].is_u64(), "{sent:?}");
    eventually("she asks again", async || {
        let answer = edge.page("mira", "").await?;
        Ok((answer.status() == StatusCode::OK).then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whoever_fails_too_often_waits_and_good_tokens_from_there_do_not() -> anyhow::Result<()> {
    let edge = Edge::start(&FEW).await?;
    let url = edge.node.url("/v1/stories/castle");
    let with = |token: &str| edge.client.get(&url).bearer_auth(token).send();
    let good = edge.token("mira", Role::Author)?;
    let mut open = edge.joined("oren", None).await?;
    for _ in 0..3 {
        assert_eq!(with(&good).await?.status(), StatusCode::OK);
        // Whoever says later who they are has not failed.
        drop(Socket::open(edge.address(), &[]).await?);
        assert_eq!(with(BAD).await?.status(), StatusCode::UNAUTHORIZED);
    }
    let after = refused(with(BAD).await?).await?;
    ensure!((1..=20_000).contains(&after), "{after}");
    let token = edge.node.url("/v1/tokens?ticket=none");
    refused(edge.client.post(token).send().await?).await?;
    let mut stream = Stream::open(edge.address(), "castle", BAD, None).await?;
    let sent = stream.until("words", |sent| sent.event == "error").await?;
    assert_eq!(sent.data["code"], "rate");
    let mut socket = Socket::open_as(edge.address(), BAD).await?;
    let (code, told) = socket.end().await?;
    assert_eq!((code, &told[0]["code"]), (4429, &json!("rate")));
    ensure!(told[0]["after_ms"].as_u64() > Some(0), "{told:?}");
    // Others may share the address.
    assert_eq!(with(&good).await?.status(), StatusCode::OK);
    edge.joined("ines", None).await?;
    // Who is in already is looked at no more, and what is for all is for all.
    assert_eq!(open.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    let page = edge.client.get(edge.node.url("/")).send().await?;
    assert_eq!(page.status(), StatusCode::OK);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn tokens_on_a_socket_and_on_a_stream_are_failures_too() -> anyhow::Result<()> {
    let edge = Edge::start(&FEW).await?;
    let mut socket = Socket::open(edge.address(), &[]).await?;
    let answer = socket.ask_for(json!({"t": "auth", "token": BAD})).await?;
    assert_eq!(answer["code"], "auth");
    let mut stream = Stream::open(edge.address(), "castle", BAD, None).await?;
    let sent = stream.until("words", |sent| sent.event == "error").await?;
    assert_eq!(sent.data["code"], "auth");
    let mut handshake = Socket::open_as(edge.address(), BAD).await?;
    assert_eq!(handshake.end().await?.0, 4401);
    let url = edge.node.url("/v1/stories/castle");
    refused(edge.client.get(url).bearer_auth(BAD).send().await?).await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whom_a_trusted_proxy_names_fails_for_themselves() -> anyhow::Result<()> {
    let edge = Edge::start(&[FEW[0], FEW[1], "--trusted-proxy", "127.0.0.1"]).await?;
    let url = edge.node.url("/v1/stories/castle");
    let ask = |token: String, from: &str| {
        let request = edge.client.get(&url).bearer_auth(token);
        request.header("x-forwarded-for", from).send()
    };
    for number in 0..3 {
        let made_up = format!("203.0.113.{number}, 198.51.100.1");
        let answer = ask(BAD.to_owned(), &made_up).await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
    refused(ask(BAD.to_owned(), "198.51.100.1").await?).await?;
    for others in ["198.51.100.2", "198.51.100.1, 198.51.100.3", "unknown"] {
        let answer = ask(BAD.to_owned(), others).await?;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{others}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_person_writes_as_often_as_they_may_over_all_connections() -> anyhow::Result<()> {
    let edge = Edge::start(&["--publishes", "1", "--messages", "1000"]).await?;
    let mut sockets = [
        edge.joined("mira", None).await?,
        edge.joined("mira", None).await?,
    ];
    for number in 0..19 {
        let answer = sockets[number % 2].ask_for(publish("I wait")).await?;
        assert_eq!(answer["t"], "ok", "{number}: {answer}");
    }
    edge.act("mira", "I wait").await?;
    for socket in &mut sockets {
        let answer = socket.ask_for(publish("I wait")).await?;
        assert_eq!(
            (&answer["t"], &answer["code"]),
            (&json!("err"), &json!("rate"))
        );
        let after = answer["after_ms"].as_u64();
        ensure!(
            after.is_some_and(|ms| (1..=60_000).contains(&ms)),
            "{answer}"
        );
    }
    let action = json!({"mode": "do", "text": "I wait"});
    let path = "/v1/stories/castle/events";
    refused(edge.post("mira", path, &action).await?).await?;
    // The socket stays, and so does everybody else.
    for socket in &mut sockets {
        assert_eq!(socket.ask_for(json!({"t": "ping"})).await?["t"], "ok");
        let left = json!({"t": "leave", "story": "castle"});
        assert_eq!(socket.ask_for(left).await?["t"], "ok");
        assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
    }
    edge.act("oren", "I do not").await?;
    edge.stack.end().await;
    Ok(())
}

/// Asks until it is too often: one a second comes back.
async fn spent(edge: &Edge) -> anyhow::Result<u64> {
    loop {
        let answer = edge.page("mira", "").await?;
        if answer.status() != StatusCode::OK {
            return refused(answer).await;
        }
    }
}

/// It is, and says when to come back, in ms.
async fn refused(response: Response) -> anyhow::Result<u64> {
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds = response.headers()["retry-after"].to_str()?.parse::<u64>()?;
    let problem: Value = response.json().await?;
    assert_eq!(problem["code"], "rate", "{problem}");
    let after = problem["after_ms"].as_u64().context("a time")?;
    assert_eq!(seconds, after.div_ceil(1_000).max(1));
    Ok(after)
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_others_have_theirs() -> anyhow::Result<()> {
    let edge = Edge::start(&["--per-address", "3", "--drain", "2s"]).await?;
    let mut open = edge.joined("mira", None).await?;
    let stream = edge.stream("oren", None).await?;
    let (quiet, address) = (TcpStream::connect(edge.address()).await?, edge.address());
    // It may be sent before it is refused, or not at all.
    for request in ["", "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut fourth = TcpStream::connect(address).await?;
        fourth.write_all(request.as_bytes()).await?;
        let mut told = String::new();
        fourth.read_to_string(&mut told).await?;
        ensure!(told.starts_with("HTTP/1.1 429 "), "{told:?}");
        ensure!(told.contains("retry-after: 5\r\n"), "{told:?}");
        let (_, problem) = told.split_once("\r\n\r\n").context("a body")?;
        let problem: Value = serde_json::from_str(problem)?;
        assert_eq!(
            (&problem["code"], &problem["after_ms"]),
            (&json!("too_many"), &json!(5_000))
        );
    }
    // Another address of this machine has room of its own, and whoever is in feels nothing.
    let other = TcpSocket::new_v4()?;
    other.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    let mut other = other.connect(address).await?;
    other.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut page = String::new();
    other.read_to_string(&mut page).await?;
    ensure!(page.starts_with("HTTP/1.0 200 "), "{page:?}");
    assert_eq!(open.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    // A socket has outlived its request, and frees its place like any other.
    drop((stream, quiet, open));
    for _ in 0..3 {
        eventually("there is room again", async || {
            Ok(edge.joined("mira", None).await.ok().map(drop))
        })
        .await?;
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn connections_of_a_trusted_proxy_are_not_counted() -> anyhow::Result<()> {
    let options = ["--per-address", "1", "--trusted-proxy", "127.0.0.1"];
    let edge = Edge::start(&options).await?;
    let mut sockets = Vec::new();
    for sub in ["mira", "oren", "ada"] {
        sockets.push(edge.joined(sub, None).await?);
    }
    for socket in &mut sockets {
        assert_eq!(socket.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whom_a_trusted_proxy_names_has_so_many_sockets_and_streams() -> anyhow::Result<()> {
    let options = ["--per-address", "2", "--trusted-proxy", "127.0.0.0/8"];
    let edge = Edge::start(&options).await?;
    let from = |named: &'static str| [("x-forwarded-for", named)];
    let token = edge.token("mira", Role::Reader)?;
    let bearer = format!("Bearer {token}");
    let path = "/v1/stories/castle/stream";
    let stream = async |named| {
        let headers = [
            ("authorization", bearer.as_str()),
            ("x-forwarded-for", named),
        ];
        let mut stream = Stream::ask(edge.address(), path, &headers).await?;
        let sent = stream.until("words", |_| true).await?;
        anyhow::Ok((stream, sent))
    };
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-for", "198.51.100.1, 127.0.0.9"),
    ];
    let silent = Socket::open(edge.address(), &headers).await?;
    let (reader, sent) = stream("198.51.100.1").await?;
    ensure!(sent.event != "error", "{sent:?}");
    let mut third = Socket::open(edge.address(), &from("203.0.113.9, 198.51.100.1")).await?;
    let (code, told) = third.end().await?;
    assert_eq!((code, &told[0]["code"]), (4429, &json!("too_many")));
    assert_eq!(told[0]["after_ms"], 5_000);
    let (_, sent) = stream("198.51.100.1").await?;
    assert_eq!(sent.data["code"], "too_many");
    // Others behind the same proxy have theirs, and requests are none.
    let (_, sent) = stream("198.51.100.2").await?;
    ensure!(sent.event != "error", "{sent:?}");
    let request = edge.client.get(edge.node.url("/v1/stories/castle"));
    let request = request.header("x-forwarded-for", "198.51.100.1");
    let answer = request.bearer_auth(&token).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    drop((silent, reader));
    eventually("there is room again", async || {
        let (_, sent) = stream("198.51.100.1").await?;
        Ok((sent.event != "error").then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_person_joins_as_often_as_they_ask() -> anyhow::Result<()> {
    let edge = Edge::start(&["--requests", "1", "--messages", "1000"]).await?;
    let mut mira = edge.socket("mira").await?;
    let refused = eventually("no join", async || {
        let answer = mira.ask_for(join(None)).await?;
        if answer["t"] == "ok" {
            let left = json!({"t": "leave", "story": "castle"});
            assert_eq!(mira.ask_for(left).await?["t"], "ok");
            return Ok(None);
        }
        Ok(Some(answer))
    })
    .await?;
    assert_eq!(refused["code"], "rate", "{refused}");
    let after = refused["after_ms"].as_u64().context("a time")?;
    ensure!((1..=1_000).contains(&after), "{after}");
    // Nobody else feels it, and a moment later they are in: the story was not taken for joined.
    edge.joined("oren", None).await?;
    eventually("she joins again", async || {
        let answer = mira.ask_for(join(None)).await?;
        Ok((answer["t"] == "ok").then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn no_more_get_a_socket_to_be_told_that_it_is_one_too_many_than_may_be() -> anyhow::Result<()>
{
    let options = ["--per-address", "1", "--trusted-proxy", "127.0.0.1"];
    let edge = Edge::start(&options).await?;
    let token = edge.token("mira", Role::Reader)?;
    let bearer = format!("Bearer {token}");
    let from = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-for", "198.51.100.1"),
    ];
    let mut first = Socket::open(edge.address(), &from).await?;
    // Each that gets one has it for a second at most.
    eventually("some get none", async || {
        let many = (0..200).map(|_| Socket::open(edge.address(), &from));
        let many = join_all(many).await;
        ensure!(many.iter().any(Result::is_ok), "nobody is told");
        let refused = many.iter().filter_map(|one| one.as_ref().err());
        let refused: Vec<String> = refused.map(|error| format!("{error:#}")).collect();
        let is_crowd = |words: &String| words.contains("429");
        ensure!(refused.iter().all(is_crowd), "{refused:?}");
        Ok((!refused.is_empty()).then_some(()))
    })
    .await?;
    assert_eq!(first.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}
