//! Programs that find a cluster of which nobody serves some slots: what they say of it, what they do all the same, and that
//! they are whole when the slots are.

use std::path::Path;

use anyhow::ensure;
use bus::Bus;
use futures::future::try_join_all;
use reqwest::StatusCode;
use story::{Agent, Outcome, StoryId};
use system_tests::edge::{Issuer, Node};
use system_tests::{Model, Output, Process, Servers, Watcher, action, eventually, free_address};

use crate::clusters::{SHARDS, UNSERVED, sharded, stories};
use crate::page::{is_ready, page_says, serving};

const STORIES: usize = 16;

async fn narrator(redis: &str, model: &Model) -> anyhow::Result<(Process, Output, String)> {
    let mut narrator = system_tests::worker(Agent::Narrator, redis, model.url())?;
    narrator.args(["--shards", &SHARDS.to_string(), "--lease", "2s"]);
    serving(&mut narrator).await
}

/// A node, and where it tells about itself.
async fn gateway(redis: &str, folder: &Path) -> anyhow::Result<(Node, String)> {
    Issuer::new(folder)?;
    let inside = free_address()?.to_string();
    let shards = SHARDS.to_string();
    let options = ["--internal-listen", &inside, "--shards", &shards];
    let node = Node::start(redis, folder, &options).await?;
    Ok((node, format!("http://{inside}")))
}

/// The first third of the slots, where nothing lies that all stories need, loses its master with its replica.
async fn loses_slots(cluster: &mut Servers) -> anyhow::Result<[usize; 2]> {
    let (master, replica) = cluster.pair().await?;
    cluster.kill(replica).await?;
    cluster.kill(master).await?;
    Ok([master, replica])
}

async fn gets_them_back(cluster: &mut Servers, nodes: [usize; 2]) -> anyhow::Result<()> {
    for node in nodes {
        cluster.resume(node).await?;
    }
    cluster.mended().await
}

/// Waits until a page says that with this status.
async fn answers(page: &str, status: StatusCode, words: &str) -> anyhow::Result<()> {
    eventually(
        &format!("{page} says {words:?} with {status}"),
        async || {
            let answer = reqwest::get(page).await?;
            let is_so = answer.status() == status;
            Ok((is_so && answer.text().await?.contains(words)).then_some(()))
        },
    )
    .await
}

async fn is_answered(bus: &Bus, story: &StoryId) -> anyhow::Result<()> {
    let mut watcher = Watcher::new(bus.watch(story, None).await?);
    let outcome = watcher.outcome_of(&"a1".parse()?).await?;
    ensure!(outcome == Outcome::Answered, "{story}: {outcome:?}");
    Ok(())
}

#[tokio::test]
async fn who_starts_while_slots_are_unserved_says_which_and_serves_the_others() -> anyhow::Result<()>
{
    let (servers, edge) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut cluster = Servers::cluster_in_part(servers.path()).await?;
    let (url, model) = (cluster.url(), Model::start("", &[]).await?);
    let bus = sharded(&url)?;
    let stories = stories(&bus, STORIES).await?;
    let lost = loses_slots(&mut cluster).await?;
    eventually("somebody knows", async || {
        bus.look_for_slots().await;
        Ok(bus.unserved())
    })
    .await?;

    let (narrator, mut log, page) = narrator(&url, &model).await?;
    let (node, inside) = gateway(&url, edge.path()).await?;
    // 16 shards over three masters: these are in slots up to 5460.
    let which = format!("of these of the {SHARDS} shards wait, and all others go on: ");
    log.line(UNSERVED).await?;
    let ready = format!("{inside}/readyz");
    for page in [&page, &ready] {
        answers(page, StatusCode::OK, "ready, but 5461 of the 16384 slots").await?;
        answers(page, StatusCode::OK, &which).await?;
    }
    let metrics = format!("{inside}/metrics");
    page_says(&metrics, "storyfleet_gateway_redis_up 0").await?;
    assert!(node.log()?.contains(&which), "{}", node.log()?);
    let sent = stories.iter().map(async |story| {
        let event = action(story, "a1", "I go on.", None)?;
        let sent = bus.publish(&event).await;
        if sent.is_ok() {
            is_answered(&bus, story).await?;
        }
        anyhow::Ok(sent.is_err().then(|| story.clone()))
    });
    let waiting: Vec<StoryId> = try_join_all(sent).await?.into_iter().flatten().collect();
    assert!((2..STORIES - 2).contains(&waiting.len()), "{waiting:?}");

    gets_them_back(&mut cluster, lost).await?;
    for story in &waiting {
        let event = action(story, "a1", "I go on.", None)?;
        eventually("it is sent", async || Ok(bus.publish(&event).await.ok())).await?;
        is_answered(&bus, story).await?;
    }
    is_ready(&page).await?;
    is_ready(&ready).await?;
    page_says(&metrics, "storyfleet_gateway_redis_up 1").await?;
    let told = log.with(&which);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(node.end().await?.success());
    assert!(narrator.end().await?.success());
    model.end().await
}

#[tokio::test]
async fn a_worker_is_not_ready_once_what_was_still_served_is_gone_too() -> anyhow::Result<()> {
    let servers = tempfile::tempdir()?;
    let mut cluster = Servers::cluster_in_part(servers.path()).await?;
    let model = Model::start("", &[]).await?;
    let (narrator, _, page) = narrator(&cluster.url(), &model).await?;
    is_ready(&page).await?;
    let lost = loses_slots(&mut cluster).await?;
    answers(&page, StatusCode::OK, "ready, but 5461 of the 16384 slots").await?;
    let nodes: Vec<usize> = (0..cluster.nodes().len()).collect();
    for &node in nodes.iter().filter(|node| !lost.contains(node)) {
        cluster.kill(node).await?;
    }
    answers(&page, StatusCode::SERVICE_UNAVAILABLE, "not ready: Redis").await?;
    for node in nodes {
        cluster.resume(node).await?;
    }
    is_ready(&page).await?;
    assert!(narrator.end().await?.success());
    model.end().await
}

/// A model that answers only after the slots were away for longer than a lease.
#[tokio::test]
async fn an_event_in_flight_stays_with_its_worker_when_its_slots_come_back() -> anyhow::Result<()> {
    let servers = tempfile::tempdir()?;
    let mut cluster = Servers::cluster_in_part(servers.path()).await?;
    let (url, model) = (cluster.url(), Model::start("", &["--ttft", "15s"]).await?);
    let bus = sharded(&url)?;
    let stories = stories(&bus, STORIES).await?;
    let narrators = [narrator(&url, &model).await?, narrator(&url, &model).await?];
    for story in &stories {
        bus.publish(&action(story, "a1", "I go on.", None)?).await?;
    }
    model.is_asked(STORIES).await?;
    let lost = loses_slots(&mut cluster).await?;
    for (_, _, page) in &narrators {
        answers(page, StatusCode::OK, "ready, but 5461 of the 16384 slots").await?;
    }
    gets_them_back(&mut cluster, lost).await?;
    for story in &stories {
        is_answered(&bus, story).await?;
    }
    for (narrator, log, page) in narrators {
        let metrics = page.replace("readyz", "metrics");
        page_says(
            &metrics,
            "storyfleet_leases_lost_total{agent=\"narrator\"} 0",
        )
        .await?;
        assert_eq!(log.with("took over"), Vec::<String>::new());
        assert!(narrator.end().await?.success());
    }
    model.is_asked(STORIES).await?;
    model.end().await
}

/// As Redis is unless it is told otherwise.
#[tokio::test]
async fn a_cluster_that_is_down_for_want_of_some_slots_is_told_of_and_waited_for()
-> anyhow::Result<()> {
    let (servers, edge) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut cluster = Servers::cluster(servers.path()).await?;
    let (url, model) = (cluster.url(), Model::start("", &[]).await?);
    let bus = sharded(&url)?;
    let stories = stories(&bus, 1).await?;
    let (node, inside) = gateway(&url, edge.path()).await?;
    let (early, mut log, page) = narrator(&url, &model).await?;
    let ready = format!("{inside}/readyz");
    for page in [&page, &ready] {
        is_ready(page).await?;
    }

    let lost = loses_slots(&mut cluster).await?;
    let (late, mut late_log, late_page) = narrator(&url, &model).await?;
    for page in [&page, &late_page, &ready] {
        let words = "CLUSTERDOWN, this cluster answers nothing, as cluster-require-full-coverage";
        answers(page, StatusCode::SERVICE_UNAVAILABLE, words).await?;
    }
    log.line("CLUSTERDOWN").await?;
    late_log.line("CLUSTERDOWN").await?;
    assert!(node.log()?.contains("CLUSTERDOWN"), "{}", node.log()?);
    let event = action(&stories[0], "a1", "I go on.", None)?;
    let told = bus
        .publish(&event)
        .await
        .expect_err("nothing is taken")
        .to_string();
    assert!(
        told.contains("set cluster-require-full-coverage no"),
        "{told}"
    );

    gets_them_back(&mut cluster, lost).await?;
    for page in [&page, &late_page, &ready] {
        is_ready(page).await?;
    }
    eventually("it is sent", async || Ok(bus.publish(&event).await.ok())).await?;
    is_answered(&bus, &stories[0]).await?;
    for narrator in [early, late] {
        assert!(narrator.end().await?.success());
    }
    assert!(node.end().await?.success());
    model.end().await
}
