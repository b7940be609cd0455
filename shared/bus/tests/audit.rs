//! The audit and the doctor against a real Redis: each kind of damage is seen, and what can be repaired is.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use bus::{Audit, Bus, Commit, Emit};
use redis::Commands;
use server::{Server, action, answer, answer_to, create};
use story::{Agent, InputPolicy, Policies, Route};

const NARRATOR: Agent = Agent::Narrator;

async fn answer_next(bus: &Bus) {
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let effects = Commit {
        emit: vec![Emit {
            event: answer(&delivery),
            route: Route::Logged(Vec::new()),
        }],
        ..Commit::default()
    };
    bus.commit(delivery, &effects).await.unwrap();
}

/// A story with one action answered and one on its way.
async fn castle(server: &Server) -> Bus {
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    for id in ["a", "b"] {
        bus.publish(&action("castle", id)).await.unwrap();
    }
    answer_next(&bus).await;
    bus
}

/// Puts an answer into the log behind the protocol's back.
fn forge(server: &Server, seq: u64, cause: &str, id: &str) {
    let mut event = answer_to(&action("castle", cause));
    event.id = id.parse().unwrap();
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
    let server = Server::start();
    let bus = castle(&server).await;
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
    let server = Server::start();
    let bus = server.bus();
    let policies = Policies {
        input: InputPolicy::Hold,
        ..Policies::default()
    };
    create(&bus, "castle", policies).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.events, audit.in_flight), (1, 1));
    let _: u64 = server.raw().del("sf:{0}:work:moderator").unwrap();
    assert_eq!(bus.audit().await.unwrap().lost, 1);
}

#[tokio::test]
async fn a_second_answer_is_a_duplicate_and_an_early_one_out_of_order() {
    let server = Server::start();
    let bus = castle(&server).await;
    forge(&server, 4, "b", "late");
    forge(&server, 5, "a", "again");
    let audit = bus.audit().await.unwrap();
    assert_eq!(
        (audit.answered, audit.duplicates, audit.out_of_order),
        (2, 1, 1)
    );
    assert!(!audit.is_clean());
}

#[tokio::test]
async fn a_lane_whose_turn_is_nobodys_is_an_orphan_that_the_doctor_sets_going() {
    let server = Server::start();
    let bus = castle(&server).await;
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
    answer_next(&bus).await;
    assert_eq!(bus.audit().await.unwrap().orphans, 0);
}

#[tokio::test]
async fn a_missing_group_and_a_wrong_policy_are_found_and_fixed() {
    let server = Server::start();
    let bus = castle(&server).await;
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
