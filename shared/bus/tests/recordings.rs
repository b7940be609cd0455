//! How turns went is kept with their end: once, whatever else happens, and never at its cost.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Burial, Bus, Commit, Committed, Keep, Kept, Recording, Seen};
use futures::TryStreamExt;
use server::network::Network;
use server::{Server, answered, castle, create, failure, given_up, one, story};
use story::{Agent, Policies};

const NARRATOR: Agent = Agent::Narrator;
const AGE: Duration = Duration::from_secs(60);
const REC: &str = "sf:{0}:rec:castle";

fn recording() -> Option<Recording> {
    let keep = Keep {
        turns: 100,
        age: AGE,
    };
    Some(Recording {
        epoch: "this".to_owned(),
        bytes: vec![0, 255],
        keep,
    })
}

fn recorded(delivery: &bus::Delivery) -> Commit {
    Commit {
        recording: recording(),
        ..answered(delivery)
    }
}

/// The ids of the events whose turns are kept.
async fn kept(bus: &Bus) -> Vec<String> {
    let all: Vec<Kept> = bus
        .all_recordings(&story("castle"))
        .try_collect()
        .await
        .unwrap();
    all.iter().map(|kept| kept.id.to_string()).collect()
}

#[tokio::test]
async fn a_commit_whose_reply_was_lost_is_recorded_once() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    let network = Network::before(&server.url());
    let bus = network.bus(1);
    bus.publish(&server::action("castle", "a")).await.unwrap();
    let delivery = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
    network.lose_reply("EVAL");
    let done = bus.commit(&delivery, &recorded(&delivery)).await.unwrap();
    assert!(network.has_failed());
    assert_eq!(done, Committed::Already);
    assert_eq!(kept(&bus).await, ["a"]);
}

#[tokio::test]
async fn a_turn_that_is_another_s_by_now_is_not_recorded() {
    let (_server, bus) = castle(&["a"]).await;
    let zombie = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let claimed = bus.reclaim(NARRATOR, "w2", Duration::ZERO, 10);
    let claimed = one(claimed.await.unwrap());
    let burial = Burial {
        recording: recording(),
        ..given_up(Some(failure("castle", "failed-a", "a")))
    };
    let late = bus.commit(&zombie, &recorded(&zombie)).await.unwrap();
    assert_eq!(late, Committed::Fenced);
    let late = bus.bury(&zombie, &burial).await.unwrap();
    assert_eq!(late, Committed::Fenced);
    assert_eq!(kept(&bus).await, [""; 0]);

    let buried = bus.bury(&claimed, &burial).await.unwrap();
    assert!(matches!(buried, Committed::Done(_)), "{buried:?}");
    let late = bus.commit(&zombie, &recorded(&zombie)).await.unwrap();
    assert_eq!(late, Committed::Gone);
    assert_eq!(kept(&bus).await, ["a"]);
}

#[tokio::test]
async fn a_turn_ends_though_it_cannot_be_recorded() {
    let (server, bus) = castle(&["a"]).await;
    let mut set = redis::cmd("SET");
    set.arg(REC)
        .arg("another's")
        .exec(&mut server.raw())
        .unwrap();
    let delivery = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
    let done = bus.commit(&delivery, &recorded(&delivery)).await.unwrap();
    assert!(matches!(done, Committed::Done(_)), "{done:?}");
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (1, true), "{audit:?}");
}

#[tokio::test]
async fn what_others_wrote_there_is_left_out() {
    let (server, bus) = castle(&["a"]).await;
    let stray = || {
        let mut add = redis::cmd("XADD");
        add.arg(REC).arg("*").arg("z").arg("no recording");
        add.exec(&mut server.raw()).unwrap();
    };
    // More than what is read at once.
    (0..40).for_each(|_| stray());
    let delivery = one(bus.reader(NARRATOR, "w1").next(5).await.unwrap());
    bus.commit(&delivery, &recorded(&delivery)).await.unwrap();
    stray();
    assert_eq!(kept(&bus).await, ["a"]);
}

#[tokio::test]
async fn what_is_older_than_it_may_be_is_forgotten() {
    let (server, bus) = castle(&["a"]).await;
    let bytes = "z".repeat(3_000);
    for ms in 1..=20 {
        let mut add = redis::cmd("XADD");
        add.arg(REC).arg(format!("{ms}-0"));
        for (name, value) in [("agent", "narrator"), ("id", "old"), ("seq", "1")] {
            add.arg(name).arg(value);
        }
        add.arg("epoch").arg("this").arg("z").arg(&bytes);
        add.exec(&mut server.raw()).unwrap();
    }
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    bus.commit(&delivery, &recorded(&delivery)).await.unwrap();
    let kept = kept(&bus).await;
    // Redis forgets by whole nodes of a stream, which hold one or two of these.
    assert!(
        kept.len() <= 3 && kept.ends_with(&["a".to_owned()]),
        "{kept:?}"
    );
    let left: u64 = redis::cmd("PTTL")
        .arg(REC)
        .query(&mut server.raw())
        .unwrap();
    assert!((59_000..=67_500).contains(&left), "{left}");

    // Whoever keeps them for less long than somebody did before is heard.
    let mut expire = redis::cmd("PEXPIRE");
    expire.arg(REC).arg(100_000);
    expire.exec(&mut server.raw()).unwrap();
    bus.publish(&server::action("castle", "b")).await.unwrap();
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    bus.commit(&delivery, &recorded(&delivery)).await.unwrap();
    let left: u64 = redis::cmd("PTTL")
        .arg(REC)
        .query(&mut server.raw())
        .unwrap();
    assert!((59_000..=67_500).contains(&left), "{left}");
}

#[tokio::test]
async fn the_recordings_of_a_story_that_is_renewed_are_still_of_its_log_and_cursors_are_not() {
    let (_server, bus) = castle(&["a"]).await;
    let castle = story("castle");
    let before = bus.story(&castle).await.unwrap();
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let mut commit = recorded(&delivery);
    let recording = commit.recording.as_mut().unwrap();
    recording.epoch.clone_from(&before.epoch);
    bus.commit(&delivery, &commit).await.unwrap();
    let mut watch = bus.watch(&castle, None).await.unwrap();
    for place in 1..3 {
        assert_eq!(server::place(&watch.next().await.unwrap()).0, place);
    }
    let cursor = watch.cursor().clone();
    assert_eq!(cursor.epoch, before.cursor_epoch());

    bus.renew_story(&castle).await.unwrap();
    let after = bus.story(&castle).await.unwrap();
    let kept: Vec<Kept> = bus.all_recordings(&castle).try_collect().await.unwrap();
    assert_eq!((kept.len(), &kept[0].epoch), (1, &after.epoch));
    assert_ne!(after.cursor_epoch(), cursor.epoch);
    let mut watch = bus.watch(&castle, Some(cursor)).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Seen::Gap);
    assert_eq!(server::place(&watch.next().await.unwrap()), (1, "a"));
    assert_eq!(watch.cursor().epoch, after.cursor_epoch());
}
