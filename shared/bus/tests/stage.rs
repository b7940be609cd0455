//! A story that is put together from another one appears whole, or not at all.

mod server;

use std::time::Duration;

use bus::{Error, Keep, Kept, NewStory};
use server::{Server, answer_to, castle, create, everything, story};
use story::{Agent, LogEntry, Policies, Seq};

const KEEP: Keep = Keep {
    turns: 10,
    age: Duration::from_secs(3600),
};

fn entries(events: &[story::Event]) -> Vec<LogEntry> {
    let places = (1..).map(Seq).zip(events);
    let entry = |(seq, event): (Seq, &story::Event)| LogEntry {
        seq,
        event: event.clone(),
    };
    places.map(entry).collect()
}

fn kept(seq: u64) -> Kept {
    Kept {
        place: String::new(),
        agent: "narrator".to_owned(),
        id: "a1".parse().expect("an event id"),
        seq: Seq(seq),
        epoch: "of the other".to_owned(),
        bytes: vec![1, 2, 255],
    }
}

#[tokio::test]
async fn a_story_that_is_put_together_appears_whole_and_goes_on() {
    let (server, bus) = castle(&["a1", "a2"]).await;
    let of = bus.story(&story("castle")).await.unwrap();
    let a1 = server::action("castle", "a1");
    let events = [a1.clone(), answer_to(&a1), server::action("castle", "a2")];
    let mut stage = bus.stage(&story("copy")).await.unwrap();
    stage.log(entries(&events[..1])).await.unwrap();
    stage.log(entries(&events)[1..].to_vec()).await.unwrap();
    stage.recordings(&[kept(2)]).await.unwrap();
    let unseen = bus.story(&story("copy")).await;
    assert!(matches!(unseen, Err(Error::NoStory(_))), "{unseen:?}");
    stage.adopt(&of, KEEP).await.unwrap();

    let made = bus.story(&story("copy")).await.unwrap();
    assert_eq!((made.seq, &made.premise), (Seq(3), &of.premise));
    assert_ne!(made.epoch, of.epoch);
    let log = bus.log(&story("copy"), Seq(0), 10).await.unwrap();
    assert!(log.iter().all(|entry| entry.event.story == story("copy")));
    let recorded = bus.recordings(&story("copy"), None).await.unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (&recorded[0].epoch, &recorded[0].bytes),
        (&made.epoch, &kept(2).bytes)
    );
    let left = everything(&mut server.raw());
    assert!(!format!("{left:?}").contains("staged"), "{left:?}");

    // The last action has no answer: it is the narrator's, once.
    assert_eq!(bus.go_on(&story("copy")).await.unwrap(), 1);
    assert_eq!(bus.go_on(&story("copy")).await.unwrap(), 0);
    assert_eq!(bus.backlog(Agent::Narrator).await.unwrap(), 2);
    let again = bus.publish(&server::action("copy", "a1")).await.unwrap();
    assert_eq!(again, bus::Published::Duplicate);
}

#[tokio::test]
async fn whoever_is_second_changes_nothing() {
    let (server, bus) = castle(&[]).await;
    let of = bus.story(&story("castle")).await.unwrap();
    let known = bus.stage(&story("castle")).await.map(drop);
    assert!(matches!(known, Err(Error::StoryExists(_))), "{known:?}");
    let mut late = bus.stage(&story("copy")).await.unwrap();
    late.log(entries(&[server::action("castle", "a1")]))
        .await
        .unwrap();
    bus.create_story(&NewStory::new(story("copy")))
        .await
        .unwrap();
    let before = everything(&mut server.raw());
    let second = late.adopt(&of, KEEP).await;
    assert!(matches!(second, Err(Error::StoryExists(_))), "{second:?}");
    assert_eq!(everything(&mut server.raw()), before);
}

#[tokio::test]
async fn an_adoption_whose_reply_was_lost_was_done() {
    let server = Server::start();
    create(&server.bus(), "castle", Policies::default()).await;
    let of = server.bus().story(&story("castle")).await.unwrap();
    let network = server::network::Network::before(&server.url());
    let bus = network.bus(1);
    let mut stage = bus.stage(&story("copy")).await.unwrap();
    stage
        .log(entries(&[server::action("castle", "a1")]))
        .await
        .unwrap();
    network.lose_reply("EVAL");
    stage.adopt(&of, KEEP).await.unwrap();
    assert!(network.has_failed());
    assert_eq!(bus.story(&story("copy")).await.unwrap().seq, Seq(1));
}

#[tokio::test]
async fn places_only_grow() {
    let (_server, bus) = castle(&[]).await;
    let mut stage = bus.stage(&story("copy")).await.unwrap();
    let mut log = entries(&[
        server::action("castle", "a1"),
        server::action("castle", "a2"),
    ]);
    log.reverse();
    let wrong = stage.log(log).await;
    assert!(matches!(wrong, Err(Error::Data(_))), "{wrong:?}");
}

#[tokio::test]
async fn what_was_lost_of_a_stage_makes_no_story() {
    let (server, bus) = castle(&[]).await;
    let of = bus.story(&story("castle")).await.unwrap();
    for kind in ["log", "rec", "seen"] {
        let mut stage = bus.stage(&story("copy")).await.unwrap();
        let log = entries(&[server::action("castle", "a1")]);
        stage.log(log).await.unwrap();
        stage.recordings(&[kept(1)]).await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("*staged:*:{kind}:copy"))
            .query(&mut server.raw())
            .unwrap();
        let gone: u32 = redis::cmd("DEL")
            .arg(&keys)
            .query(&mut server.raw())
            .unwrap();
        assert!(gone > 0, "{keys:?}");
        let lost = stage.adopt(&of, KEEP).await;
        assert!(matches!(lost, Err(Error::Data(_))), "{lost:?}");
        let none = bus.story(&story("copy")).await;
        assert!(matches!(none, Err(Error::NoStory(_))), "{none:?}");
    }
    let ends: Vec<String> = redis::cmd("KEYS")
        .arg("*staged*")
        .query(&mut server.raw())
        .unwrap();
    for key in ends {
        let ms: i64 = redis::cmd("PTTL")
            .arg(&key)
            .query(&mut server.raw())
            .unwrap();
        assert!(ms > 0, "{key}");
    }
}
