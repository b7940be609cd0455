//! What is refused is counted by its reason, and an operator is told what to do about it.

use anyhow::ensure;
use gateway::auth::Role;
use reqwest::StatusCode;
use serde_json::json;
use system_tests::edge::Stream;
use system_tests::{eventually, free_address};

use super::{Edge, publish, tls};

/// Where the pages of a node for operators are.
struct Pages(String);

impl Pages {
    fn new() -> anyhow::Result<Self> {
        Ok(Self(free_address()?.to_string()))
    }

    /// How many were refused for that.
    async fn refused(&self, reason: &str) -> anyhow::Result<u64> {
        let url = format!("http://{}/metrics", self.0);
        let text = reqwest::get(url).await?.text().await?;
        let name = format!("storyfleet_gateway_refused_total{{reason=\"{reason}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&name));
        Ok(count.map_or(Ok(0), str::parse)?)
    }
}

#[tokio::test]
async fn what_a_person_may_not_is_counted_whatever_they_come_by() -> anyhow::Result<()> {
    let pages = Pages::new()?;
    let limits = [
        "--requests",
        "10",
        "--publishes",
        "1",
        "--failures",
        "1",
        "--per-person",
        "1",
    ];
    let more = ["--messages", "1000", "--internal-listen", &pages.0];
    let edge = Edge::start(&[&limits[..], &more].concat()).await?;
    let mut socket = edge.joined("ada", None).await?;
    for reason in ["requests", "publishes", "failures", "per_person"] {
        assert_eq!(pages.refused(reason).await?, 0, "{reason}");
    }
    let token = edge.token("ada", Role::Author)?;
    let mut second = Stream::open(edge.address(), "castle", &token, None).await?;
    let told = second.until("words", |_| true).await?;
    assert_eq!(told.data["code"], "too_many", "{told:?}");
    assert_eq!(pages.refused("per_person").await?, 1);
    while socket.ask_for(publish("I wait")).await?["t"] == "ok" {}
    assert_eq!(pages.refused("publishes").await?, 1);
    while edge.page("mira", "").await?.status() == StatusCode::OK {}
    assert_eq!(pages.refused("requests").await?, 1);
    let url = edge.node.url("/v1/stories/castle");
    let fails = async || {
        let bad = edge.client.get(&url).bearer_auth("no.good.token");
        anyhow::Ok(bad.send().await?.status())
    };
    assert_eq!(fails().await?, StatusCode::UNAUTHORIZED);
    assert_eq!(fails().await?, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(pages.refused("failures").await?, 1);
    assert_eq!(socket.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn connections_that_an_address_may_not_have_are_counted_and_told_of_once()
-> anyhow::Result<()> {
    let pages = Pages::new()?;
    let options = ["--per-address", "1", "--internal-listen", &pages.0];
    let (edge, node, files) = tls::start(&options).await?;
    // The one that asked whether the node listens is gone soon.
    let held = eventually("it is in", async || {
        Ok(files.connect(node.address(), &[]).await.ok())
    })
    .await?;
    let before = pages.refused("per_address").await?;
    for _ in 0..3 {
        let more = files.connect(node.address(), &[]).await;
        ensure!(more.is_err(), "one more");
    }
    assert_eq!(pages.refused("per_address").await?, before + 3);
    let log = node.log()?;
    let told = log.lines().filter(|line| line.contains("--per-address"));
    let told: Vec<&str> = told.collect();
    ensure!(told.len() == 1, "{log}");
    ensure!(
        told[0].contains("WARN") && told[0].contains("--trusted-proxy"),
        "{told:?}"
    );
    ensure!(told[0].contains("127.0.0.1"), "{told:?}");
    drop(held);
    edge.stack.end().await;
    Ok(())
}
