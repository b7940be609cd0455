//! Dead letters against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Delivery, DraftChunk, Drafted, Queue, Settings};
use redis::Commands;
use server::{action, answered, castle, draft, failure, given_up, one};
use story::Agent;

const NARRATOR: Agent = Agent::Narrator;

async fn bury(bus: &Bus, id: &str) {
    bus.publish(&action("castle", id)).await.unwrap();
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let failed = failure("castle", &format!("failed-{id}"), id);
    bus.bury(&delivery, &given_up(Some(failed))).await.unwrap();
}

#[tokio::test]
async fn a_dead_letter_keeps_the_event_and_says_why() {
    let (_server, bus) = castle(&[]).await;
    bury(&bus, "a").await;
    let letters = bus.dead(NARRATOR).await.unwrap();
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.story.as_ref().unwrap().as_str(), "castle");
    assert_eq!(letter.event.as_ref().unwrap().as_str(), "a");
    assert_eq!(
        (letter.reason.as_str(), letter.class.as_str(), letter.tries),
        ("it always fails", "crash", 3)
    );
    assert!(letter.fields["e"].contains("text of a"));
    let again = bus.dead_letter(NARRATOR, &letter.id).await.unwrap();
    assert_eq!(again.as_ref(), Some(letter));
    assert_eq!(bus.dead_count(NARRATOR).await.unwrap(), 1);
}

fn empty() -> Queue {
    Queue {
        backlog: Some(0),
        oldest: Some(Duration::ZERO),
        dead: Some(0),
        unreadable: Vec::new(),
    }
}

#[tokio::test]
async fn every_queue_is_told_with_its_oldest_event_and_its_dead() {
    let (server, bus) = castle(&[]).await;
    let queue = async |agent| {
        let queues = bus.queues(&Agent::ALL).await.unwrap();
        queues.into_iter().find(|(of, _)| *of == agent).unwrap().1
    };
    assert_eq!(queue(NARRATOR).await, empty());
    bury(&bus, "a").await;
    let letter = Queue {
        dead: Some(1),
        ..empty()
    };
    assert_eq!(queue(NARRATOR).await, letter);
    bus.publish(&action("castle", "b")).await.unwrap();
    assert_eq!(queue(NARRATOR).await.backlog, Some(1));
    // By the id of its entry, and the oldest alone counts: that of 1970 is older than any.
    let _id: String = server
        .raw()
        .xadd("sf:{0}:work:dialogue", "1000-0", &[("story", "castle")])
        .unwrap();
    let _id: String = server
        .raw()
        .xadd("sf:{0}:work:dialogue", "*", &[("story", "castle")])
        .unwrap();
    let dialogue = queue(Agent::Dialogue).await;
    assert_eq!((dialogue.backlog, dialogue.dead), (Some(2), Some(0)));
    let years = dialogue.oldest.unwrap().as_secs() / (365 * 24 * 60 * 60);
    assert!((50..100).contains(&years), "{dialogue:?}");
    // A server that was started anew knows no script.
    let _done: () = redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query(&mut server.raw())
        .unwrap();
    assert_eq!(queue(Agent::Dialogue).await.backlog, Some(2));
    assert_eq!(queue(Agent::Moderator).await, empty());
}

#[tokio::test]
async fn what_lies_wrong_under_one_key_hides_no_other_queue() {
    let (server, bus) = castle(&[]).await;
    bury(&bus, "a").await;
    bus.publish(&action("castle", "b")).await.unwrap();
    let wrong = ["sf:{0}:dead:dialogue", "sf:{0}:work:narrator"];
    for key in wrong {
        let _was: Option<String> = server.raw().rename(key, "elsewhere").ok();
        let _set: () = server.raw().set(key, "x").unwrap();
    }
    let _id: String = server
        .raw()
        .xadd("sf:{0}:work:dialogue", "1000-0", &[("story", "castle")])
        .unwrap();
    let queues = bus.queues(&Agent::ALL).await.unwrap();
    for (agent, queue) in queues {
        let (backlog, dead, unreadable) = match agent {
            Agent::Moderator => (Some(0), Some(0), Vec::new()),
            Agent::Narrator => (None, Some(1), vec![wrong[1].to_owned()]),
            Agent::Dialogue => (Some(1), None, vec![wrong[0].to_owned()]),
        };
        assert_eq!(queue.oldest.is_some(), backlog.is_some(), "{agent}");
        let counts = (queue.backlog, queue.dead, queue.unreadable);
        assert_eq!(counts, (backlog, dead, unreadable), "{agent}");
    }
    // What is in the other shards is not the whole.
    let shards = Settings {
        shards: 2,
        ..Settings::new(server.url())
    };
    let queues = Bus::new(shards).unwrap().queues(&[Agent::Narrator]).await;
    assert_eq!(queues.unwrap()[0].1.backlog, None);
    // Of the others nothing is asked.
    let queues = bus.queues(&[Agent::Moderator]).await.unwrap();
    assert_eq!(queues, [(Agent::Moderator, empty())]);
}

#[tokio::test]
async fn a_redriven_event_is_answered_once_and_the_audit_is_clean() {
    let (_server, bus) = castle(&[]).await;
    bury(&bus, "a").await;
    let id = bus.dead(NARRATOR).await.unwrap().remove(0).id;
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.events, audit.failed, audit.dead), (1, 1, 1));
    assert!(bus.redrive(NARRATOR, &id).await.unwrap());
    assert!(!bus.redrive(NARRATOR, &id).await.unwrap());
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 1);
    let delivery = bus.reader(NARRATOR, "w1").next(5).await.unwrap().remove(0);
    let effects = answered(&delivery);
    bus.commit(&delivery, &effects).await.unwrap();
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.failed, audit.dead), (1, 0, 0));
    assert!(audit.is_clean(), "{audit:?}");
}

#[tokio::test]
async fn a_letter_stays_until_its_event_is_in_its_lane() {
    let (server, bus) = castle(&[]).await;
    bury(&bus, "a").await;
    let letters = bus.dead(NARRATOR).await.unwrap();
    let counts = "sf:{0}:redriven:castle";
    server.raw().set::<_, _, ()>(counts, "another's").unwrap();
    bus.redrive(NARRATOR, &letters[0].id).await.unwrap_err();
    assert_eq!(bus.dead(NARRATOR).await.unwrap(), letters);
    server.raw().del::<_, ()>(counts).unwrap();
    assert!(bus.redrive(NARRATOR, &letters[0].id).await.unwrap());
}

#[tokio::test]
async fn what_was_redriven_stands_behind_what_came_after_it_though_nobody_was_told_of_its_burial() {
    let (_server, bus) = castle(&["a", "b"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let first = reader.next(1).await.unwrap().remove(0);
    bus.bury(&first, &given_up(None)).await.unwrap();
    let id = bus.dead(NARRATOR).await.unwrap().remove(0).id;
    assert!(bus.redrive(NARRATOR, &id).await.unwrap());
    for expected in ["b", "a"] {
        let delivery = reader.next(1).await.unwrap().remove(0);
        assert_eq!(delivery.work.as_ref().unwrap().id.as_str(), expected);
        let effects = answered(&delivery);
        bus.commit(&delivery, &effects).await.unwrap();
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (2, true), "{audit:?}");
}

#[tokio::test]
async fn a_purged_letter_is_gone_and_a_strange_id_names_none() {
    let (_server, bus) = castle(&[]).await;
    bury(&bus, "a").await;
    for strange in ["", "1-0", "0/x", "9/1-0", "0/1-0"] {
        let found = bus.dead_letter(NARRATOR, strange).await.unwrap();
        assert_eq!(found, None, "{strange}");
        assert!(!bus.purge(NARRATOR, strange).await.unwrap(), "{strange}");
        assert!(!bus.redrive(NARRATOR, strange).await.unwrap(), "{strange}");
    }
    let id = bus.dead(NARRATOR).await.unwrap().remove(0).id;
    assert!(bus.purge(NARRATOR, &id).await.unwrap());
    assert!(bus.dead(NARRATOR).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_entry_of_more_fields_than_a_script_can_pass_on_is_buried_too() {
    let (server, bus) = castle(&[]).await;
    let mut entry = redis::cmd("XADD");
    entry
        .arg("sf:{0}:work:narrator")
        .arg("*")
        .arg("story")
        .arg("castle");
    for i in 0..5_000 {
        entry.arg(i).arg("x");
    }
    entry.exec(&mut server.raw()).unwrap();
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    bus.bury(&delivery, &given_up(None)).await.unwrap();
    let letter = bus.dead(NARRATOR).await.unwrap().remove(0);
    assert_eq!(letter.fields["left_out"], "4001");
    assert_eq!(
        (letter.fields["story"].as_str(), letter.class.as_str()),
        ("castle", "crash")
    );
}

#[tokio::test]
async fn what_is_redriven_days_later_is_no_earlier_attempt_and_no_text_is_left() {
    let (server, bus) = castle(&["a"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let drafted = |delivery: &Delivery| {
        let work = delivery.work.as_ref().unwrap();
        draft(delivery, work.response(NARRATOR))
    };
    let delivery = reader.next(1).await.unwrap().remove(0);
    let chunk = DraftChunk {
        draft: &drafted(&delivery),
        attempt: 1,
        i: 0,
        n: 1,
        text: "Once",
    };
    assert_eq!(bus.draft(&chunk).await.unwrap(), Drafted::Ok);
    bus.bury(&delivery, &given_up(None)).await.unwrap();
    let mut raw = server.raw();
    let texts: Vec<String> = raw.keys("*:draft:*").unwrap();
    assert_eq!(texts, [""; 0]);
    // What expires is gone by then.
    for key in raw.keys::<_, Vec<String>>("*").unwrap() {
        if raw.pttl::<_, i64>(&key).unwrap() >= 0 {
            let _: u64 = raw.del(&key).unwrap();
        }
    }
    let id = bus.dead(NARRATOR).await.unwrap().remove(0).id;
    assert!(bus.redrive(NARRATOR, &id).await.unwrap());
    let delivery = reader.next(1).await.unwrap().remove(0);
    let fetched = bus.context(&delivery, (1, None), 0).await.unwrap();
    assert_eq!(fetched.attempt, 1);
    let attempt = bus.reset_draft(&drafted(&delivery)).await.unwrap();
    assert!(attempt > Some(1), "{attempt:?}");
}

/// Every worker asks each second, and an entry may have 64 KiB.
#[tokio::test]
async fn how_old_the_oldest_event_is_is_told_without_reading_it_while_it_is_in_flight() {
    let (server, bus) = castle(&["a"]).await;
    let reads = || {
        let info: redis::InfoDict = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut server.raw())
            .unwrap();
        info.get::<String>("cmdstat_xrange").unwrap_or_default()
    };
    let reads = || reads().split(',').next().map(str::to_owned);
    let oldest = async || {
        let queues = bus.queues(&[NARRATOR]).await.unwrap();
        (queues[0].1.backlog, queues[0].1.oldest)
    };
    let (backlog, waiting) = loop {
        let (backlog, waiting) = oldest().await;
        if waiting.unwrap() >= Duration::from_millis(5) {
            break (backlog, waiting);
        }
    };
    assert_eq!(backlog, Some(1));
    let _delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let before = reads();
    let (backlog, in_flight) = oldest().await;
    assert_eq!(backlog, Some(1));
    assert!(in_flight >= waiting);
    assert_eq!(reads(), before);
}
