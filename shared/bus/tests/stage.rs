//! A story that is put together from another one appears whole, or not at all.

mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Error, Keep, Kept, MAX_PLACE, MAX_STORY_BYTES, NewStory, Replicated, Stage};
use futures::TryStreamExt;
use server::{Server, answer_to, castle, create, everything, story};
use story::{Agent, LogEntry, MAX_EVENT_BYTES, Policies, Seq};

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
    stage.adopt(&of, &BTreeMap::new(), KEEP).await.unwrap();

    let made = bus.story(&story("copy")).await.unwrap();
    assert_eq!((made.seq, &made.premise), (Seq(3), &of.premise));
    assert_ne!(made.epoch, of.epoch);
    assert!(made.fence.len() == 7 && made.fence != of.fence);
    let log = bus.log(&story("copy"), Seq(0), 10).await.unwrap();
    assert!(log.iter().all(|entry| entry.event.story == story("copy")));
    let recorded: Vec<Kept> = bus
        .all_recordings(&story("copy"))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(
        (&recorded[0].epoch, &recorded[0].bytes),
        (&made.epoch, &kept(2).bytes)
    );
    let left = everything(&mut server.raw());
    assert!(!format!("{left:?}").contains("staged"), "{left:?}");

    // The last action has no answer: it is the narrator's, once.
    let unasked = Replicated::Unasked;
    assert_eq!(bus.go_on(&story("copy")).await.unwrap(), (1, unasked));
    assert_eq!(bus.go_on(&story("copy")).await.unwrap(), (0, unasked));
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
    let second = late.adopt(&of, &BTreeMap::new(), KEEP).await;
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
    stage.adopt(&of, &BTreeMap::new(), KEEP).await.unwrap();
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
    assert!(matches!(wrong, Err(Error::Misplaced(_))), "{wrong:?}");
}

#[tokio::test]
async fn a_log_goes_on_behind_the_last_place_that_one_may_be_put_together_with() {
    let (_server, bus) = castle(&[]).await;
    let of = bus.story(&story("castle")).await.unwrap();
    let mut stage = bus.stage(&story("copy")).await.unwrap();
    let entry = |seq, id| LogEntry {
        seq: Seq(seq),
        event: server::action("castle", id),
    };
    let (last, far) = (entry(MAX_PLACE, "a1"), entry(MAX_PLACE + 1, "a2"));
    stage.log(vec![last]).await.unwrap();
    let far = stage.log(vec![far]).await;
    assert!(matches!(far, Err(Error::Misplaced(_))), "{far:?}");
    let none = BTreeMap::new();
    stage.adopt(&of, &none, KEEP).await.unwrap();
    let done = bus.go_on(&story("copy")).await.unwrap();
    assert_eq!(done, (1, Replicated::Unasked));
    let delivery = server::one(bus.reader(Agent::Narrator, "w1").next(1).await.unwrap());
    let effects = server::answered(&delivery);
    let done = bus.commit(&delivery, &effects).await.unwrap();
    let next = Seq(MAX_PLACE + 1);
    assert_eq!(done, bus::Committed::Done(vec![next]));
    let log = bus.log(&story("copy"), Seq(0), 10).await.unwrap();
    assert_eq!(log.last().map(|entry| entry.seq), Some(next));
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
        let lost = stage.adopt(&of, &BTreeMap::new(), KEEP).await;
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

#[tokio::test]
async fn a_copy_of_what_was_redriven_is_accounted_for_as_its_first_was() {
    let (_server, bus) = castle(&["a"]).await;
    let narrator = Agent::Narrator;
    let mut reader = bus.reader(narrator, "w1");
    let delivery = reader.next(1).await.unwrap().remove(0);
    let failed = server::failure("castle", "failed-a", "a");
    let burial = server::given_up(Some(failed));
    bus.bury(&delivery, &burial).await.unwrap();
    let letter = bus.dead(narrator).await.unwrap().remove(0);
    assert!(bus.redrive(narrator, &letter.id).await.unwrap());
    let delivery = reader.next(1).await.unwrap().remove(0);
    bus.commit(&delivery, &server::answered(&delivery))
        .await
        .unwrap();
    assert!(bus.audit().await.unwrap().is_clean());

    let of = bus.story(&story("castle")).await.unwrap();
    let redriven = bus.redriven(&story("castle")).await.unwrap();
    assert_eq!(redriven.len(), 1);
    // Nobody is redriven in what has no such event.
    for (copy, events, left) in [("whole", 3, 1), ("none", 0, 0)] {
        let mut log = bus.log(&story("castle"), Seq(0), 10).await.unwrap();
        log.truncate(events);
        let mut stage = bus.stage(&story(copy)).await.unwrap();
        stage.log(log).await.unwrap();
        stage.adopt(&of, &redriven, KEEP).await.unwrap();
        assert_eq!(bus.redriven(&story(copy)).await.unwrap().len(), left);
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (2, true), "{audit:?}");
}

#[tokio::test]
async fn what_is_larger_than_a_story_may_be_makes_none_and_leaves_nothing() {
    let (server, bus) = castle(&[]).await;
    let of = bus.story(&story("castle")).await.unwrap();
    let before = everything(&mut server.raw());
    let redriven = BTreeMap::new();
    let mut at = of.clone();
    let mut least = 0;
    let stage = bus.stage(&story("copy")).await.unwrap();
    let put = async |stage: &mut Stage| {
        for (seq, bytes, is_taken) in [(1, MAX_EVENT_BYTES, true), (2, MAX_EVENT_BYTES + 1, false)]
        {
            let mut event = server::action("copy", &format!("a{seq}"));
            event.author.name = "x".to_owned();
            let least = event.encode().len() - 1;
            event.author.name = "x".repeat(bytes - least);
            let seq = Seq(seq);
            match stage.log(vec![LogEntry { seq, event }]).await {
                Err(Error::TooLarge(large)) => assert_eq!((large, is_taken), (bytes, false)),
                taken => assert_eq!(taken.is_ok(), is_taken, "{taken:?}"),
            }
        }
        at.premise = "x".repeat(2 * MAX_STORY_BYTES);
        match stage.adopt(&at, &redriven, KEEP).await {
            Err(Error::Oversized { bytes, .. }) => least = bytes - 2 * MAX_STORY_BYTES,
            other => panic!("{other:?}"),
        }
        at.premise = "x".repeat(MAX_STORY_BYTES - least + 1);
        stage.adopt(&at, &redriven, KEEP).await
    };
    let large = stage.through(put).await;
    assert!(matches!(large, Err(Error::Oversized { .. })), "{large:?}");
    assert_eq!(everything(&mut server.raw()), before);

    let stage = bus.stage(&story("copy")).await.unwrap();
    at.premise = "x".repeat(MAX_STORY_BYTES - least);
    let put = async |stage: &mut Stage| {
        stage.adopt(&at, &redriven, KEEP).await?;
        Err::<(), _>(Error::Moved)
    };
    // What fails after that is too late.
    stage.through(put).await.unwrap_err();
    let made = bus.story(&story("copy")).await.unwrap();
    assert_eq!(made.premise, at.premise);
}
