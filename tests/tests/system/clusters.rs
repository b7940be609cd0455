//! The fleet on a Redis Cluster.

use bus::{Bus, NewStory, Settings};
use story::{Agent, StoryId};
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
