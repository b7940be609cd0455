//! The fleet on a Redis Cluster and under sentinels: slots that move, masters that die or freeze.

use std::time::Duration;

use bus::{Bus, NewStory, Settings};
use story::{Agent, StoryId};
use system_tests::failover::{self, Blow, Report, Topology, Trial};
use system_tests::{Model, Process, Servers, action, eventually, worker};

use crate::command::told;

/// Over three masters.
const SHARDS: u16 = 16;
const STORIES: usize = 8;
const ACTIONS: usize = 6;

/// Slots are moved while stories go on: nothing is lost, nothing is answered twice, all is in order.
#[tokio::test]
async fn a_fleet_goes_on_while_slots_are_moved() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Servers::cluster(folder.path()).await?;
    let url = cluster.url();
    let bus = Bus::new(Settings {
        shards: SHARDS,
        ..Settings::new(url.clone())
    })?;
    let model = Model::start("", &[]).await?;
    let mut stories: Vec<StoryId> = Vec::new();
    for n in 0..STORIES {
        let story = NewStory::new(format!("s{n}").parse()?);
        bus.create_story(&story).await?;
        stories.push(story.id);
    }
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
