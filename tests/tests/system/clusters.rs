//! The fleet on a Redis Cluster and under sentinels: slots that move, masters that die or freeze.

use bus::{Bus, NewStory, Settings};
use story::{Agent, StoryId};
use system_tests::failover::{self, Blow, Report, Topology, Trial};
use system_tests::{Model, Process, Servers, action, eventually, program};
use tokio::process::Command;

use crate::command::says;

/// Over three masters.
const SHARDS: u16 = 16;
const STORIES: usize = 8;
const ACTIONS: usize = 6;

/// Slots are moved while stories go on: nothing is lost, nothing is answered twice, all is in order.
#[tokio::test]
async fn a_fleet_goes_on_while_slots_are_moved() -> anyhow::Result<()> {
    let cluster = Servers::cluster().await?;
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
        let mut narrator = Command::new(program(Agent::Narrator.as_str())?);
        narrator.args(["run", "--redis", &url, "--shards", &SHARDS.to_string()]);
        narrator.args(["--llm", model.url(), "--model", "mock", "--lease", "2s"]);
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
    // The first third of the slots but for a few, of some of the stories among them.
    let (played, moved) = tokio::join!(play, cluster.reshard(2_000));
    played?;
    moved?;
    let all = u64::try_from(STORIES * ACTIONS)?;
    let audit = eventually("all is answered", async || {
        let audit = bus.audit().await?;
        Ok((audit.answered == all).then_some(audit))
    })
    .await?;
    assert!(audit.is_clean(), "{audit:?}");

    let folder = tempfile::tempdir()?;
    let shards = SHARDS.to_string();
    let operator = ["--redis", &url, "--shards", &shards];
    for (words, told) in [
        (&["audit"][..], "clean"),
        (&["doctor"], "nothing is wrong"),
        (&["dead", "list"], "no dead letters"),
    ] {
        let all = [&operator[..], words].concat();
        let out = says(folder.path(), &all).await?;
        assert!(out.contains(told), "{words:?}: {out}");
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
    };
    let report = failover::run(trial, |_| {}).await?;
    assert!(report.is_clean(), "{report}");
    Ok(report)
}

/// What was confirmed to be on a replica outlives its master, whoever watches over it.
#[tokio::test]
async fn nothing_that_a_replica_has_is_lost_with_a_master_of_a_cluster() -> anyhow::Result<()> {
    let report = fails_over(Topology::Cluster, Blow::Kill, 1).await?;
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

/// Without waiting for replicas what they did not have yet is lost, and the audit names it.
#[tokio::test]
async fn what_a_replica_did_not_have_is_lost_and_named() -> anyhow::Result<()> {
    let report = fails_over(Topology::Cluster, Blow::Lag, 0).await?;
    assert!(!report.lost.is_empty(), "{report}");
    Ok(())
}
