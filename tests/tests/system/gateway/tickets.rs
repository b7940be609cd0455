//! What tickets are good for, and what they are not; and who is let in while it is not known who was put out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bus::Revoked;
use gateway::auth::{COOKIE, Pattern, Role};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use system_tests::edge::{Node, Person, Socket, Stream};
use system_tests::eventually;

use super::Edge;

/// Of tokens and tickets, in seconds.
const LEEWAY: u64 = 10;

fn now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

async fn sent(request: RequestBuilder) -> anyhow::Result<(u16, Value)> {
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

fn text(answer: &Value, name: &str) -> anyhow::Result<String> {
    Ok(answer[name].as_str().context("a text")?.to_owned())
}

/// With that ticket.
async fn joins(edge: &Edge, got: &Value) -> anyhow::Result<()> {
    let path = format!("/v1/ws?ticket={}", text(got, "ticket")?);
    let (mut socket, _) = Socket::ask(edge.address(), &path, &[]).await?;
    let answer = socket.ask_for(super::join(None)).await?;
    anyhow::ensure!(answer["t"] == "ok", "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_ticket_ends_with_its_token() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let brief = edge.brief("mira", Duration::from_secs(5))?;
    let post = edge.client.post(edge.node.url("/v1/tickets"));
    let (status, ticket) = sent(post.bearer_auth(brief)).await?;
    let left = ticket["expires_in_ms"].as_u64().context("a time")?;
    assert!(status == 200 && left <= 15_000, "{ticket}");

    for (left, expected) in [(LEEWAY - 3, 200), (LEEWAY + 1, 401)] {
        let holder = json!({
            "sub": "mira", "name": "Mira", "jti": null, "issued_at": null,
            "expires_at": now()? - left, "stories": {"castle": "author"},
        });
        let (holder, name) = (holder.to_string(), format!("since-{left}"));
        let bus = &edge.stack.bus;
        bus.put_ticket(&name, holder.as_bytes(), Duration::from_secs(60))
            .await?;
        let url = edge.node.url(&format!("/v1/stories/castle?ticket={name}"));
        let (status, answer) = sent(edge.client.get(url)).await?;
        assert_eq!(status, expected, "{left}: {answer}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_ticket_gives_no_ticket_and_nothing_but_a_ticket_gives_a_token() -> anyhow::Result<()> {
    let edge = Edge::start(&["--origin", "https://app.example"]).await?;
    let token = edge.token("mira", Role::Author)?;
    let at = |path: &str| edge.client.post(edge.node.url(path));
    let cookie = |path: &str| {
        let request = at(path).header("origin", "https://app.example");
        request.header("cookie", format!("{COOKIE}={token}"))
    };
    let (_, got) = sent(at("/v1/tickets").bearer_auth(&token)).await?;
    let ticket = text(&got, "ticket")?;
    for refused in [
        at(&format!("/v1/tickets?ticket={ticket}")),
        at("/v1/tokens").bearer_auth(&token),
        cookie("/v1/tokens"),
    ] {
        let (status, problem) = sent(refused).await?;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
        assert!(text(&problem, "detail")?.contains("ticket"), "{problem}");
    }
    // It was not used up by that.
    let (status, given) = sent(at(&format!("/v1/tokens?ticket={ticket}"))).await?;
    assert_eq!(status, 200, "{given}");
    let given = text(&given, "token")?;
    let page = edge.client.get(edge.node.url("/v1/stories/castle"));
    assert_eq!(sent(page.bearer_auth(given)).await?.0, 200);

    // A script that cannot read the cookie gets its token in no way, and connects all the same.
    let (_, got) = sent(cookie("/v1/tickets")).await?;
    let path = format!("/v1/tokens?ticket={}", text(&got, "ticket")?);
    let (status, problem) = sent(at(&path)).await?;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    let (_, got) = sent(cookie("/v1/tickets")).await?;
    joins(&edge, &got).await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn the_largest_token_gets_a_ticket_that_says_as_much() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let names: Vec<String> = (0..70).map(|n| format!("{n:0>64}")).collect();
    let mut stories: Vec<(&str, Role)> = names.iter().map(|id| (&**id, Role::Reader)).collect();
    assert!(names[0].parse::<Pattern>().is_ok());
    stories.push(("castle", Role::Author));
    let token = edge.issuer.token(&Person::new("mira", &stories))?;
    assert!((7_000..8_193).contains(&token.len()), "{}", token.len());
    let post = edge.client.post(edge.node.url("/v1/tickets"));
    let (status, got) = sent(post.bearer_auth(token)).await?;
    assert_eq!(status, 200, "{got}");
    joins(&edge, &got).await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_that_cannot_know_who_was_revoked_lets_nobody_in() -> anyhow::Result<()> {
    let mut edge = Edge::start(&[]).await?;
    let (put_out, good) = (
        edge.token("mallory", Role::Author)?,
        edge.token("mira", Role::Author)?,
    );
    let revoked = Revoked::User("mallory".to_owned());
    let until = now()? + 7_200;
    edge.stack.bus.revoke(&revoked, now()? + 60, until).await?;
    edge.stack.kill_redis().await?;
    let url = edge.stack.redis_url();
    let node = Node::start(&url, edge.folder.path(), &[]).await?;
    let read = |token: &str| {
        let request = edge.client.get(node.url("/v1/stories/castle"));
        sent(request.bearer_auth(token))
    };
    for token in [&put_out, &good] {
        let (status, problem) = read(token).await?;
        assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
        assert!(problem["after_ms"].is_u64(), "{problem}");
    }
    let (status, problem) = read(&format!("{good}x")).await?;
    assert_eq!(status, 401, "{problem}");

    let mut socket = Socket::open_as(node.address(), &put_out).await?;
    let (code, before) = socket.end().await?;
    assert_eq!((code, &before[0]["code"]), (1012, &json!("unavailable")));
    assert!(before[0]["after_ms"].is_u64(), "{before:?}");
    let mut socket = Socket::open(node.address(), &[]).await?;
    let auth = json!({"t": "auth", "token": put_out});
    assert_eq!(socket.ask_for(auth).await?["code"], "unavailable");
    assert_eq!(socket.end().await?.0, 1012);
    let mut stream = Stream::open(node.address(), "castle", &put_out, None).await?;
    let told = stream.until("an error", |_| true).await?;
    assert_eq!(told.data["code"], "unavailable");

    edge.stack.resume_redis().await?;
    eventually("the node lets somebody in", async || {
        let (status, answer) = read(&good).await?;
        assert!(matches!(status, 200 | 503), "{answer}");
        Ok((status == 200).then_some(()))
    })
    .await?;
    assert_eq!(read(&put_out).await?.0, 401);
    // What is known counts while Redis is away again.
    edge.stack.kill_redis().await?;
    let (status, problem) = read(&put_out).await?;
    assert_eq!(status, 401, "{problem}");
    edge.stack.end().await;
    Ok(())
}
