//! The audit and the doctor against a real Redis: each kind of damage is seen, and what can be repaired is.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use bus::{Audit, Bus, Cut, Hole};
use redis::Commands;
use server::{
    Server, action, answer_to, answered, castle, create, event, failure, held_castle, story,
};
use story::{Action, Agent, AuthorKind, Event, Mode, OutputPolicy, Payload, Policies, Seq};

const NARRATOR: Agent = Agent::Narrator;

async fn answer_next(bus: &Bus) {
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let mut effects = answered(&delivery);
    // The name that an agent gives it.
    effects.emit[0].event.id = delivery.work.as_ref().unwrap().response(NARRATOR);
    bus.commit(&delivery, &effects).await.unwrap();
}

/// A story with one action answered and one on its way.
async fn half_answered() -> (Server, Bus) {
    let (server, bus) = castle(&["a", "b"]).await;
    answer_next(&bus).await;
    (server, bus)
}

/// Puts an answer into the log behind the protocol's back.
fn forge(server: &Server, seq: u64, cause: &str, id: &str) {
    let mut event = answer_to(&action("castle", cause));
    event.id = id.parse().unwrap();
    put(server, seq, &event);
}

/// The same with the narrator's failure.
fn forge_failure(server: &Server, seq: u64, cause: &str) {
    let id = format!("failed-{seq}");
    put(server, seq, &failure("castle", &id, cause));
}

fn put(server: &Server, seq: u64, event: &Event) {
    let mut raw = server.raw();
    let _: String = raw
        .xadd(
            "sf:{0}:log:castle",
            format!("{seq}-0"),
            &[("e", event.encode())],
        )
        .unwrap();
    let _: u64 = raw
        .hset("sf:{0}:ctx:castle", "seq", seq)
        .map(|n: u64| n)
        .unwrap();
}

#[tokio::test]
async fn what_is_answered_and_what_waits_is_counted() {
    let (_server, bus) = half_answered().await;
    let expected = Audit {
        events: 2,
        answered: 1,
        in_flight: 1,
        ..Audit::default()
    };
    assert_eq!(bus.audit().await.unwrap(), expected);
    assert_eq!(bus.doctor(false).await.unwrap(), []);
}

#[tokio::test]
async fn a_held_action_is_in_flight_though_the_log_has_it_not() {
    let (server, bus) = held_castle().await;
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.events, audit.in_flight), (1, 1));
    let _: u64 = server.raw().del("sf:{0}:work:moderator").unwrap();
    assert_eq!(bus.audit().await.unwrap().lost, 1);
}

#[tokio::test]
async fn a_second_answer_is_a_duplicate_and_an_early_one_out_of_order() {
    let (server, bus) = half_answered().await;
    create(&bus, "moor", Policies::default()).await;
    bus.publish(&action("moor", "c")).await.unwrap();
    forge(&server, 4, "b", "late");
    forge(&server, 5, "a", "again");
    let audit = bus.audit().await.unwrap();
    assert_eq!(
        (audit.answered, audit.duplicates, audit.out_of_order),
        (2, 1, 1)
    );
    assert!(!audit.is_clean());
    assert_eq!(audit.wrong, ["castle".parse().unwrap()]);
}

#[tokio::test]
async fn an_end_after_a_failure_is_a_duplicate_unless_an_operator_sent_it_again() {
    let (server, bus) = half_answered().await;
    forge_failure(&server, 4, "b");
    assert_eq!(bus.audit().await.unwrap().duplicates, 0);
    forge_failure(&server, 5, "b");
    assert_eq!(bus.audit().await.unwrap().duplicates, 1);
    forge(&server, 6, "b", "late");
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.duplicates), (2, 2));
}

#[tokio::test]
async fn a_failure_out_of_its_turn_is_seen_where_nothing_may_overtake() {
    for (output, out_of_order) in [(OutputPolicy::Off, 1), (OutputPolicy::Hold, 0)] {
        let server = Server::start();
        let bus = server.bus();
        let policies = Policies {
            output,
            ..Policies::default()
        };
        create(&bus, "castle", policies).await;
        for id in ["a", "b"] {
            bus.publish(&action("castle", id)).await.unwrap();
        }
        forge_failure(&server, 3, "b");
        forge(&server, 4, "a", "late");
        let audit = bus.audit().await.unwrap();
        assert_eq!(
            (audit.out_of_order, audit.lost),
            (out_of_order, 0),
            "{output:?}"
        );
    }
}

#[tokio::test]
async fn what_is_published_during_an_audit_is_not_lost() {
    let server = Server::start();
    let bus = server.bus();
    let stories: Vec<String> = (0..20).map(|i| format!("castle-{i}")).collect();
    for story in &stories {
        create(&bus, story, Policies::default()).await;
    }
    let publishing = async {
        for round in 0..40 {
            for story in &stories {
                bus.publish(&action(story, &format!("a{round}")))
                    .await
                    .unwrap();
            }
        }
    };
    tokio::pin!(publishing);
    loop {
        tokio::select! {
            biased;
            () = &mut publishing => break,
            audit = bus.audit() => {
                let audit = audit.unwrap();
                assert!(audit.is_clean(), "{audit:?}");
                assert_eq!(audit.events, audit.in_flight, "{audit:?}");
            }
        }
    }
    assert_eq!(bus.audit().await.unwrap().in_flight, 800);
}

#[tokio::test]
async fn an_entry_destroyed_with_its_consumer_is_an_orphan_that_the_doctor_sets_going() {
    let (server, bus) = half_answered().await;
    bus.publish(&action("castle", "c")).await.unwrap();
    let held = bus.reader(NARRATOR, "w1").next(1).await.unwrap();
    assert_eq!(bus.audit().await.unwrap().orphans, 0);
    let mut destroy = redis::cmd("XGROUP");
    destroy.arg(&["DELCONSUMER", "sf:{0}:work:narrator", "fleet", "w1"]);
    destroy.exec(&mut server.raw()).unwrap();
    drop(held);
    assert_eq!(bus.audit().await.unwrap().orphans, 1);
    let findings = bus.doctor(true).await.unwrap();
    assert!(findings.len() == 1 && findings[0].fixed, "{findings:?}");
    for _ in ["b", "c"] {
        answer_next(&bus).await;
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (3, true), "{audit:?}");
}

#[tokio::test]
async fn a_look_at_the_lanes_does_not_move_what_is_parked_there() {
    let (server, bus) = castle(&[]).await;
    for i in 0..40 {
        let long = Payload::Action(Action {
            mode: Mode::Do,
            text: "x".repeat(60_000),
            to: None,
            choice: None,
            target: None,
        });
        let long = event("castle", &format!("a{i}"), AuthorKind::User, long);
        bus.publish(&long).await.unwrap();
    }
    let held = bus.reader(NARRATOR, "w1").next(1).await.unwrap();
    let before = sent(&server);
    let log = bus
        .log(&server::story("castle"), Seq(0), 100)
        .await
        .unwrap();
    assert_eq!(log.len(), 40);
    let log = sent(&server) - before;
    assert_eq!(bus.doctor(false).await.unwrap(), []);
    drop(held);
    let bytes = sent(&server) - before - log;
    assert!(
        bytes < log + 50_000,
        "{bytes} bytes beside the {log} of the log"
    );
    assert_eq!(bus.audit().await.unwrap().in_flight, 40);
}

/// How many bytes Redis has sent.
fn sent(server: &Server) -> u64 {
    let info: redis::InfoDict = redis::cmd("INFO")
        .arg("stats")
        .query(&mut server.raw())
        .unwrap();
    info.get("total_net_output_bytes").unwrap()
}

#[tokio::test]
async fn a_lane_whose_turn_is_nobodys_is_an_orphan_that_the_doctor_sets_going() {
    let (server, bus) = half_answered().await;
    bus.publish(&action("castle", "c")).await.unwrap();
    let mut raw = server.raw();
    let turn: String = raw.get("sf:{0}:turn:narrator:castle").unwrap();
    let _: u64 = raw.xdel("sf:{0}:work:narrator", &[turn]).unwrap();
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.lost, audit.in_flight, audit.orphans), (1, 1, 1));
    assert!(
        bus.doctor(false)
            .await
            .unwrap()
            .iter()
            .all(|finding| !finding.fixed)
    );
    assert!(
        bus.doctor(true)
            .await
            .unwrap()
            .iter()
            .all(|finding| finding.fixed)
    );
    assert_eq!(bus.doctor(false).await.unwrap(), []);
    for _ in ["c", "b"] {
        answer_next(&bus).await;
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (3, true), "{audit:?}");
}

#[tokio::test]
async fn a_missing_group_and_a_wrong_policy_are_found_and_fixed() {
    let (server, bus) = half_answered().await;
    let mut raw = server.raw();
    redis::cmd("XGROUP")
        .arg(&["DESTROY", "sf:{0}:work:narrator", "fleet"])
        .exec(&mut raw)
        .unwrap();
    redis::cmd("CONFIG")
        .arg(&["SET", "maxmemory-policy", "allkeys-lru"])
        .exec(&mut raw)
        .unwrap();
    assert_eq!(bus.doctor(false).await.unwrap().len(), 2);
    assert_eq!(
        bus.doctor(true)
            .await
            .unwrap()
            .iter()
            .filter(|finding| finding.fixed)
            .count(),
        2
    );
    assert_eq!(bus.doctor(false).await.unwrap(), []);
    answer_next(&bus).await;
}

#[tokio::test]
async fn what_went_with_a_destroyed_log_is_not_called_lost() {
    let (server, bus) = half_answered().await;
    let _: u64 = server.raw().del("sf:{0}:log:castle").unwrap();
    let gone = Audit {
        events: 2,
        in_flight: 1,
        unknown: 1,
        cut: vec![Cut {
            story: story("castle"),
            begins: None,
            actions: 1,
        }],
        ..Audit::default()
    };
    let audit = bus.audit().await.unwrap();
    assert_eq!(audit, gone);
    assert!(!audit.is_clean());
    let found = bus.doctor(true).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].what.contains("log:castle is gone"), "{found:?}");

    // What comes after it is told of as ever: an answer, and one that is lost.
    answer_next(&bus).await;
    bus.publish(&action("castle", "c")).await.unwrap();
    for key in ["sf:{0}:turn:narrator:castle", "sf:{0}:work:narrator"] {
        let _: u64 = server.raw().del(key).unwrap();
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!(
        (audit.answered, audit.unknown, audit.lost),
        (1, 1, 1),
        "{audit:?}"
    );
    assert_eq!(audit.cut[0].begins, Some(Seq(4)));
    let found = bus.doctor(false).await.unwrap();
    assert!(
        found[0].what.contains("log:castle begins at 4"),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_was_destroyed_in_the_middle_of_a_log_is_not_clean_though_all_is_answered() {
    let (server, bus) = half_answered().await;
    answer_next(&bus).await;
    assert!(bus.audit().await.unwrap().is_clean());
    let mut raw = server.raw();
    let gone: u64 = raw.xdel("sf:{0}:log:castle", &["2-0"]).unwrap();
    assert_eq!(gone, 1);
    let audit = bus.audit().await.unwrap();
    let hole = Hole {
        story: story("castle"),
        from: Seq(2),
        upto: Seq(2),
    };
    let destroyed = Audit {
        events: 2,
        answered: 2,
        holes: vec![hole],
        ..Audit::default()
    };
    assert_eq!(audit, destroyed);
    assert!(!audit.is_clean());

    // Taken back, it is no hole.
    let tombstone = action("castle", "b").encode();
    let _: u64 = raw.hset("sf:{0}:gone:castle", 2, tombstone).unwrap();
    assert!(bus.audit().await.unwrap().is_clean());
}
