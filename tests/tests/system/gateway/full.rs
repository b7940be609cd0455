//! A Redis without memory: people read on, what they do is refused in words, and counts once when there is room again.

use anyhow::Context;
use bus::NewStory;
use gateway::auth::Role;
use serde_json::{Value, json};
use story::Agent;
use system_tests::{eventually, free_address};

use super::{Edge, join, publish};

async fn text(edge: &Edge, url: String) -> anyhow::Result<(u16, String)> {
    let answer = edge.client.get(url).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// In words that tell a client what was done, and when to try again.
async fn is_refused(edge: &Edge, action: &Value) -> anyhow::Result<()> {
    let refused = edge
        .post("mira", "/v1/stories/castle/events", action)
        .await?;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = refused.json().await?;
    assert_eq!(problem["code"], "unavailable");
    let detail = problem["detail"].as_str().context("words")?;
    assert!(detail.contains("nothing of this was done"), "{problem}");
    Ok(())
}

#[tokio::test]
async fn on_a_full_redis_people_read_and_what_they_do_is_refused_and_counts_once_later()
-> anyhow::Result<()> {
    let internal = free_address()?.to_string();
    let edge = Edge::start(&["--internal-listen", &internal]).await?;
    let _narrator = edge.stack.worker(Agent::Narrator)?;
    let ready = || text(&edge, format!("http://{internal}/readyz"));
    let metrics = || text(&edge, format!("http://{internal}/metrics"));
    edge.act("mira", "I open the door").await?;
    edge.stack.audit(1).await?;
    let mut socket = edge.joined("sam", None).await?;
    eventually("ready for all", async || {
        Ok((ready().await? == (200, "ready\n".to_owned())).then_some(()))
    })
    .await?;

    edge.stack
        .redis(&["CONFIG", "SET", "maxmemory", "1"])
        .await?;
    let readable = "ready, but only to read: Redis has no memory left";
    eventually("it is told what it is ready for", async || {
        let (status, says) = ready().await?;
        Ok((status == 200 && says.starts_with(readable)).then_some(()))
    })
    .await?;
    let (_, served) = metrics().await?;
    assert!(
        served.contains("storyfleet_gateway_redis_up 0\n"),
        "{served}"
    );
    let action = json!({"mode": "do", "text": "I wait", "id": "w1"});
    is_refused(&edge, &action).await?;
    let answer = socket.ask_for(publish("I sing")).await?;
    assert_eq!(
        (&answer["code"], &answer["after_ms"]),
        (&json!("unavailable"), &json!(5_000)),
        "{answer}"
    );
    // Who comes now reads what there is.
    let mut late = edge.socket("ada").await?;
    assert_eq!(late.ask_for(join(None)).await?["t"], "ok");
    assert_eq!(edge.page("ada", "").await?.status(), 200);

    edge.stack
        .redis(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    for _ in 0..2 {
        let taken = edge
            .post("mira", "/v1/stories/castle/events", &action)
            .await?;
        assert_eq!(taken.status(), 202);
    }
    edge.stack.audit(2).await?;
    eventually("ready for all again", async || {
        let (_, served) = metrics().await?;
        let is_up = served.contains("storyfleet_gateway_redis_up 1\n");
        Ok((is_up && ready().await?.1 == "ready\n").then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_story_that_a_full_redis_refuses_is_not_there_and_can_be_made_later() -> anyhow::Result<()>
{
    let edge = Edge::start(&[]).await?;
    let token = edge.issuer.token(&system_tests::edge::Person::new(
        "mira",
        &[("forest", Role::Owner)],
    ))?;
    let make = async || {
        let request = edge.client.post(edge.node.url("/v1/stories"));
        let request = request.bearer_auth(&token).json(&json!({"id": "forest"}));
        anyhow::Ok(request.send().await?.status().as_u16())
    };
    edge.stack
        .redis(&["CONFIG", "SET", "maxmemory", "1"])
        .await?;
    assert_eq!(make().await?, 503);
    edge.stack
        .redis(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    assert_eq!(
        edge.stack.bus.stories().await?,
        std::slice::from_ref(&edge.story)
    );
    assert_eq!(make().await?, 201);
    let again = NewStory::new("forest".parse()?);
    assert!(edge.stack.bus.create_story(&again).await.is_err());
    edge.stack.end().await;
    Ok(())
}
