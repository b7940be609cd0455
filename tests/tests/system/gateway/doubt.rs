//! What somebody writes whose fate Redis has told nobody: they are told that it may have been taken, and under which id to
//! send it again, so that it counts once.

use anyhow::{Context, ensure};
use gateway::auth::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use system_tests::edge::Node;
use system_tests::{Relay, Signal};

use super::{Edge, join};

const PATH: &str = "/v1/stories/castle/events";

/// A node that hears Redis through a relay.
async fn behind() -> anyhow::Result<(Edge, Relay)> {
    let mut edge = Edge::start(&[]).await?;
    let relay = Relay::before(&edge.stack.redis_url()).await?;
    edge.node = Node::start(&relay.url(), edge.folder.path(), &[]).await?;
    // From then on Redis knows the script: one reply is that to the event.
    let first = edge.post("mira", PATH, &action(None, "I come in")).await?;
    ensure!(first.status().is_success(), "{first:?}");
    Ok((edge, relay))
}

fn action(id: Option<&str>, text: &str) -> Value {
    let mut action = json!({"mode": "do", "text": text});
    if let Some(id) = id {
        action["id"] = id.into();
    }
    action
}

/// How often it is in the story.
async fn count(edge: &Edge, text: &str) -> anyhow::Result<usize> {
    let page: Value = edge.page("mira", "").await?.json().await?;
    let events = page["events"].as_array().context("events")?;
    let is = |event: &&Value| event["event"]["text"] == text;
    Ok(events.iter().filter(is).count())
}

#[tokio::test]
async fn what_may_have_been_taken_is_said_so_and_counts_once_when_it_is_sent_again()
-> anyhow::Result<()> {
    let (edge, relay) = behind().await?;
    for (own, text) in [(None, "I knock"), (Some("my-2"), "I wait")] {
        relay.lose(text);
        let answer = edge.post("mira", PATH, &action(own, text)).await?;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem: Value = answer.json().await?;
        let says = problem["detail"].as_str().context("words")?;
        ensure!(says.contains("may have been taken"), "{problem}");
        let id = problem["id"].as_str().context("an id")?;
        ensure!(says.contains(id), "{problem}");
        ensure!(own.is_none_or(|own| own == id), "{problem}");
        relay.mend();
        let again = edge.post("mira", PATH, &action(Some(id), text)).await?;
        assert_eq!(again.status(), StatusCode::ACCEPTED);
        let accepted: Value = again.json().await?;
        assert_eq!(accepted["status"], "duplicate");
        assert_eq!(count(&edge, text).await?, 1);
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_socket_is_told_the_id_of_what_may_have_been_taken() -> anyhow::Result<()> {
    let (edge, relay) = behind().await?;
    let mut socket = edge.joined("mira", None).await?;
    relay.lose("I listen");
    let publish = |id: Option<&str>| json!({"t": "publish", "story": "castle", "event": action(id, "I listen")});
    let told = socket.ask_for(publish(None)).await?;
    assert_eq!(
        (&told["t"], &told["code"]),
        (&json!("err"), &json!("unavailable"))
    );
    let words = told["message"].as_str().context("words")?;
    ensure!(words.contains("may have been taken"), "{told}");
    let id = told["id"].as_str().context("an id")?.to_owned();
    relay.mend();
    let again = socket.ask_for(publish(Some(&id))).await?;
    assert_eq!(again["status"], "duplicate", "{again}");
    let none = socket.ask_for(join(None)).await?;
    ensure!(none["t"] == "err" && none["id"].is_null(), "{none}");
    assert_eq!(count(&edge, "I listen").await?, 1);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_certainly_was_not_taken_is_not_said_to_may_have_been() -> anyhow::Result<()> {
    let mut edge = Edge::start(&[]).await?;
    let missing = edge.issuer.token(&system_tests::edge::Person::new(
        "mira",
        &[("moat", Role::Author)],
    ))?;
    let url = edge.node.url("/v1/stories/moat/events");
    let request = edge.client.post(url).bearer_auth(missing);
    let problem: Value = request
        .json(&action(None, "I"))
        .send()
        .await?
        .json()
        .await?;
    ensure!(
        problem["code"] == "no_story" && problem["id"].is_null(),
        "{problem}"
    );
    edge.stack.kill_redis().await?;
    // The first finds the connection gone that it was sent on; from then on there is none to send on.
    edge.post("mira", PATH, &action(None, "I call")).await?;
    let answer = edge.post("mira", PATH, &action(None, "I call")).await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = answer.json().await?;
    ensure!(problem["id"].is_null(), "{problem}");
    assert_eq!(
        problem["detail"],
        "the story's store cannot be reached now: try again"
    );
    edge.stack.resume_redis().await?;
    edge.node.signal(Signal::TERM)?;
    edge.stack.end().await;
    Ok(())
}
