//! The fleet on a Redis Cluster and under sentinels: slots that move, masters that die or freeze.

use std::time::Duration;

use anyhow::{Context, ensure};
use bus::{Bus, Feeds, NewStory, Seen, Settings, Watch};
use futures::future::try_join_all;
use story::{Agent, Outcome, StoryId};
use system_tests::failover::{self, Blow, Report, Topology, Trial};
use system_tests::{Model, Process, Servers, Signal, Watcher, action, eventually, worker};
use tokio::time::{Instant, timeout};

use crate::command::{run, told};
use crate::page::{is_ready, page_says, serving};

/// Over three masters.
pub(crate) const SHARDS: u16 = 16;
const STORIES: usize = 8;
const ACTIONS: usize = 6;
/// What is said of slots whose master is gone.
pub(crate) const UNSERVED: &str = "slots of this cluster are served by nobody";
/// Of two looks of a reader at a log that nothing tears them from, a little less than there is at least.
const LOOK: Duration = Duration::from_secs(22);
/// For a replica to take over, and to be found.
const DEADLINE: Duration = Duration::from_secs(60);

/// Slots are moved while stories go on: nothing is lost, nothing is answered twice, all is in order.
#[tokio::test]
async fn a_fleet_goes_on_while_slots_are_moved() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Servers::cluster(folder.path()).await?;
    let url = cluster.url();
    let bus = sharded(&url)?;
    let model = Model::start("", &[]).await?;
    let stories = stories(&bus, STORIES).await?;
    let mut fleet = Vec::new();
    for _ in 0..2 {
        let mut narrator = worker(Agent::Narrator, &url, model.url())?;
        narrator.args(["--shards", &SHARDS.to_string(), "--lease", "2s"]);
        fleet.push(Process::start(&mut narrator)?);
    }
    let play = async {
        for n in 0..ACTIONS {
            for story in &stories {
                bus.publish(&action(story, &format!("a{n}"), "I go on.", None)?)
                    .await?;
            }
        }
        anyhow::Ok(())
    };
    // Of the first third of the slots, with some of the stories.
    let (first, _) = cluster.pair().await?;
    let (played, moved) = tokio::join!(play, cluster.reshard(first, 2_000));
    played?;
    moved?;
    let all = u64::try_from(STORIES * ACTIONS)?;
    let audit = eventually("all is answered", async || {
        let audit = bus.audit().await?;
        Ok((audit.answered == all).then_some(audit))
    })
    .await?;
    assert!(audit.is_clean(), "{audit:?}");

    let shards = SHARDS.to_string();
    for (words, expected) in [
        (&["audit"][..], "clean"),
        (&["doctor"], "nothing is wrong"),
        (&["dead", "list"], "no dead letters"),
    ] {
        let words = [&["--shards", &shards][..], words].concat();
        let out = told(&url, &words).await?;
        assert!(out.contains(expected), "{words:?}: {out}");
    }
    for narrator in fleet {
        assert!(narrator.end().await?.success());
    }
    Ok(())
}

/// `top` shows the shards that are served, and names what is not.
async fn shows_what_is_left(url: &str) -> anyhow::Result<()> {
    let shards = SHARDS.to_string();
    let out = told(url, &["--shards", &shards, "top", "--once"]).await?;
    for says in [
        "no answer for these shards",
        "these nodes of the cluster do not answer",
    ] {
        assert!(out.contains(says), "{out}");
    }
    Ok(())
}

/// Where a master is gone with its replica, stories of its slots wait and whoever asks is told why; all others go on.
#[tokio::test]
async fn slots_that_nobody_serves_stop_their_own_stories_alone_and_are_told_of()
-> anyhow::Result<()> {
    let servers = tempfile::tempdir()?;
    let mut cluster = Servers::cluster_in_part(servers.path()).await?;
    let url = cluster.url();
    let bus = sharded(&url)?;
    let model = Model::start("", &[]).await?;
    let mut narrator = worker(Agent::Narrator, &url, model.url())?;
    narrator.args(["--shards", &SHARDS.to_string(), "--lease", "2s"]);
    let (narrator, log, page) = serving(&mut narrator).await?;
    let stories = stories(&bus, 2 * STORIES).await?;
    // The first third of the slots, where nothing lies that all stories need.
    let (master, replica) = cluster.pair().await?;
    cluster.kill(replica).await?;
    cluster.kill(master).await?;
    page_says(&page, UNSERVED).await?;
    let sent = stories.iter().map(async |story| {
        let event = action(story, "a1", "I go on.", None)?;
        anyhow::Ok((story.clone(), bus.publish(&event).await))
    });
    let sent = try_join_all(sent).await?;
    let (told, stopped): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, sent)| sent.is_ok());
    assert!(
        told.len() >= 2 && stopped.len() >= 2,
        "{told:?} {stopped:?}"
    );
    for (_, sent) in &stopped {
        let told = sent.as_ref().expect_err("refused").to_string();
        assert!(told.contains(UNSERVED), "{told}");
    }
    shows_what_is_left(&url).await?;
    for (story, _) in &told {
        let mut watcher = Watcher::new(bus.watch(story, None).await?);
        let outcome = watcher.outcome_of(&"a1".parse()?).await?;
        assert_eq!(outcome, Outcome::Answered);
    }
    let (goes_on, waits) = (&told[0].0, &stopped[0].0);
    let answered = sends(&url, goes_on).await?;
    assert!(answered.status.success(), "{answered:?}");
    let line = String::from_utf8(sends(&url, waits).await?.stderr)?;
    assert!(line.contains(UNSERVED), "{line}");
    let warnings = log.with("WARN");
    assert!(warnings.len() <= 3, "{warnings:#?}");
    // All is answered once they are back.
    cluster.resume(master).await?;
    cluster.resume(replica).await?;
    cluster.mended().await?;
    for (story, _) in &stopped {
        let event = action(story, "a1", "I go on.", None)?;
        eventually("it is sent", async || Ok(bus.publish(&event).await.ok())).await?;
    }
    eventually("all is answered", async || {
        let audit = bus.audit().await.ok();
        let all = u64::try_from(stories.len() + 1)?;
        Ok(audit.filter(|audit| audit.answered == all && audit.is_clean()))
    })
    .await?;
    is_ready(&page).await?;
    assert!(narrator.end().await?.success());
    model.end().await
}

pub(crate) fn sharded(url: &str) -> anyhow::Result<Bus> {
    Ok(Bus::new(Settings {
        shards: SHARDS,
        ..Settings::new(url)
    })?)
}

pub(crate) async fn stories(bus: &Bus, count: usize) -> anyhow::Result<Vec<StoryId>> {
    let mut stories = Vec::new();
    for n in 0..count {
        let story = NewStory::new(format!("s{n}").parse()?);
        bus.create_story(&story).await?;
        stories.push(story.id);
    }
    Ok(stories)
}

async fn sends(redis: &str, story: &StoryId) -> anyhow::Result<std::process::Output> {
    let (folder, shards) = (tempfile::tempdir()?, SHARDS.to_string());
    let to = ["--redis", redis, "--shards", &shards];
    let send = ["send", story.as_str(), "And on.", "--wait"];
    run(folder.path(), &[&to[..], &send].concat()).await
}

async fn fails_over(topology: Topology, blow: Blow, wait_replicas: u32) -> anyhow::Result<Report> {
    let trial = Trial {
        topology,
        blow,
        wait_replicas,
        // Other tests run beside this one; `make failover`, alone, bounds it by 5 s.
        patience: Duration::from_secs(60),
    };
    let report = failover::run(trial, |line| println!("{line}")).await?;
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    Ok(report)
}

/// What was confirmed to be on a replica outlives its master, whoever watches over it.
#[tokio::test]
async fn nothing_that_a_replica_has_is_lost_with_a_master_of_a_cluster() -> anyhow::Result<()> {
    let report = fails_over(Topology::Cluster, Blow::Lag, 1).await?;
    // What is lost was said to be on no replica, and the audit names it: else it is not clean.
    assert!(!report.lost.is_empty(), "{report}");
    assert!(report.confirmed > report.confirmed_as_short, "{report}");
    Ok(())
}

#[tokio::test]
async fn nothing_that_a_replica_has_is_lost_with_a_master_under_sentinels() -> anyhow::Result<()> {
    let report = fails_over(Topology::Sentinel, Blow::Kill, 1).await?;
    assert!(report.confirmed > report.confirmed_as_short, "{report}");
    Ok(())
}

/// A wedged master is left, and is a replica when it comes to.
#[tokio::test]
async fn a_master_that_freezes_is_left_for_its_replica() -> anyhow::Result<()> {
    fails_over(Topology::Sentinel, Blow::Freeze, 0).await?;
    Ok(())
}

/// Who reads a story of another master is not torn from it, and who reads one of its own finds its successor.
#[tokio::test]
async fn a_master_that_freezes_takes_nobody_from_the_stories_of_another() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Servers::cluster(folder.path()).await?;
    let bus = sharded(&cluster.url())?;
    let feeds = bus.feeds();
    tokio::select! {
        () = feeds.tidy() => anyhow::bail!("subscriptions are tidied no more"),
        is_so = freezes(&cluster, &bus, &feeds) => is_so,
    }
}

async fn freezes(cluster: &Servers, bus: &Bus, feeds: &Feeds) -> anyhow::Result<()> {
    let (master, replica) = cluster.pair().await?;
    let (mut well, mut frozen) = (None, None);
    for n in 0..STORIES {
        let story: StoryId = format!("s{n}").parse()?;
        bus.create_story(&NewStory::new(story.clone())).await?;
        let has = async |node| {
            for shard in 0..SHARDS {
                let context = format!("sf:{{{shard}}}:ctx:{story}");
                if cluster.has(node, &context).await? {
                    return anyhow::Ok(Some(()));
                }
            }
            Ok(None)
        };
        let place = match has(master).await? {
            Some(()) => {
                // A link that has just come up need not carry anything yet.
                eventually("its replica has it", async || has(replica).await).await?;
                &mut frozen
            }
            None => &mut well,
        };
        *place = Some((feeds.watch(&story, None).await?, story));
    }
    let (mut well, mut frozen) = well.zip(frozen).context("all stories have one master")?;
    let reading = well.0.read_again();
    for watch in [&mut well.0, &mut frozen.0] {
        while !watch.is_caught_up() {
            watch.next_or_caught_up().await?;
        }
    }
    let since = Instant::now();
    cluster.signal(master, Signal::STOP)?;
    while !frozen.0.is_lost() {
        ensure!(since.elapsed() < DEADLINE, "its reader notices nothing");
        // Cancel-safe.
        let seen = timeout(Duration::from_millis(50), frozen.0.next_or_caught_up()).await;
        ensure!(seen.is_err(), "seen of a master that is frozen: {seen:?}");
    }
    say_and_see(bus, &mut well).await?;
    let again = well.0.read_again() - reading;
    // Whoever reads for so long looks again by themselves.
    let looks = 1 + since.elapsed().as_secs() / LOOK.as_secs();
    ensure!(
        (1..=looks).contains(&again),
        "its log was read {again} times, not {looks}"
    );
    cluster.promoted(replica).await?;
    say_and_see(bus, &mut frozen).await
}

async fn say_and_see(bus: &Bus, (watch, story): &mut (Watch, StoryId)) -> anyhow::Result<()> {
    let action = action(story, "a0", "I go on.", None)?;
    eventually("the action is taken", async || {
        Ok(bus.publish(&action).await.ok())
    })
    .await?;
    let seen = timeout(DEADLINE, watch.next()).await??;
    ensure!(matches!(seen, Seen::Event(_)), "{seen:?}");
    Ok(())
}
