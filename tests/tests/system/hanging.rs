//! A master of a cluster that hangs and has no replica: stories of the others go on, also with who begins meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bus::Bus;
use futures::future::try_join_all;
use gateway::auth::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use story::{Agent, Outcome, StoryId};
use system_tests::edge::{Issuer, Node, Person};
use system_tests::{Model, Output, Process, Servers, Signal, Watcher, action, worker};
use tokio::time::{Instant, interval, timeout};

use crate::clusters::{SHARDS, sharded, stories};
use crate::page::{is_ready, page_says, serving};

const STORIES: usize = 16;
/// How often each story is played once it is known that the master hangs.
const ROUNDS: usize = 8;
/// On the page of a worker that knows.
const GO_ON: &str = "all others go on";
/// Until the others agree that it has failed, 2 s by the settings of these servers and a few more, and until all know.
const NOTICED: Duration = Duration::from_secs(30);
/// How long an answer takes from then on, at most: ten times what it does.
const ANSWERED: Duration = Duration::from_secs(4);

/// A story that is played, and how often it was.
struct Played {
    story: StoryId,
    watcher: Watcher,
    actions: usize,
}

impl Played {
    async fn new(bus: &Bus, story: StoryId) -> anyhow::Result<Self> {
        let watcher = Watcher::new(bus.watch(&story, None).await?);
        Ok(Self {
            story,
            watcher,
            actions: 0,
        })
    }

    /// Plays on; gives how long the answer took.
    async fn goes_on(&mut self, bus: &Bus) -> anyhow::Result<Duration> {
        self.actions += 1;
        let action = action(&self.story, &format!("a{}", self.actions), "I go on.", None)?;
        let since = Instant::now();
        bus.publish(&action).await?;
        let outcome = self.watcher.outcome_of(&action.id).await?;
        ensure!(outcome == Outcome::Answered, "{}: {outcome:?}", self.story);
        Ok(since.elapsed())
    }
}

async fn narrator(redis: &str, model: &Model) -> anyhow::Result<(Process, Output, String)> {
    let mut narrator = worker(Agent::Narrator, redis, model.url())?;
    narrator.args(["--shards", &SHARDS.to_string(), "--lease", "2s"]);
    serving(&mut narrator).await
}

/// The longest that an answer takes while all of them are played so often, once a second.
async fn slowest(bus: &Bus, played: &mut [Played], rounds: usize) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    let mut seconds = interval(Duration::from_secs(1));
    for _ in 0..rounds {
        seconds.tick().await;
        let answers = played.iter_mut().map(|played| played.goes_on(bus));
        let answers = try_join_all(answers).await?;
        slowest = answers.into_iter().fold(slowest, Duration::max);
    }
    Ok(slowest)
}

/// Somebody acts in a story over a gateway that begins now.
async fn takes_an_action(redis: &str, folder: &Path, story: &StoryId) -> anyhow::Result<()> {
    let issuer = Issuer::new(folder)?;
    let shards = SHARDS.to_string();
    let node = Node::start(redis, folder, &["--shards", &shards]).await?;
    let token = issuer.token(&Person::new("mira", &[(story.as_str(), Role::Author)]))?;
    let url = node.url(&format!("/v1/stories/{story}/events"));
    let body = json!({"mode": "do", "text": "I go on."});
    let answer = reqwest::Client::new().post(url).bearer_auth(token);
    let answer = answer.json(&body).send().await?;
    ensure!(answer.status() == StatusCode::ACCEPTED, "{answer:?}");
    let accepted: Value = answer.json().await?;
    accepted["id"].as_str().context("an id")?;
    ensure!(node.end().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_master_that_hangs_without_a_replica_makes_nobody_elses_stories_wait()
-> anyhow::Result<()> {
    let (servers, edge) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut cluster = Servers::cluster_in_part(servers.path()).await?;
    let (url, model) = (cluster.url(), Model::start("", &[]).await?);
    let bus = sharded(&url)?;
    let all = stories(&bus, STORIES).await?;
    let (early, _early_log, page) = narrator(&url, &model).await?;
    is_ready(&page).await?;
    let mut played = try_join_all(all.into_iter().map(|story| Played::new(&bus, story))).await?;
    try_join_all(played.iter_mut().map(|played| played.goes_on(&bus))).await?;
    let (master, replica) = cluster.pair().await?;
    let hung = cluster.stories(master).await?;
    played.retain(|played| !hung.contains(&played.story));
    ensure!(
        !hung.is_empty() && !played.is_empty(),
        "all are in one place"
    );

    cluster.kill(replica).await?;
    cluster.signal(master, Signal::STOP)?;
    let since = Instant::now();
    let plays = async {
        loop {
            slowest(&bus, &mut played, 1).await?;
            if reqwest::get(&page).await?.text().await?.contains(GO_ON) {
                return anyhow::Ok(since.elapsed());
            }
        }
    };
    let noticed = timeout(NOTICED, plays).await.context("nobody notices")??;
    println!("noticed after {noticed:.1?}");
    let took = slowest(&bus, &mut played, ROUNDS).await?;
    ensure!(took < ANSWERED, "an answer took {took:.1?}");

    let (late, _late_log, page) = narrator(&url, &model).await?;
    page_says(&page, GO_ON).await?;
    ensure!(early.end().await?.success());
    takes_an_action(&url, edge.path(), &played[0].story).await?;
    let took_late = slowest(&bus, &mut played, ROUNDS).await?;
    ensure!(took_late < ANSWERED, "an answer took {took_late:.1?}");
    println!("answers took {took:.2?} and {took_late:.2?} at most");

    cluster.signal(master, Signal::CONT)?;
    is_ready(&page).await?;
    ensure!(late.end().await?.success());
    model.end().await
}
