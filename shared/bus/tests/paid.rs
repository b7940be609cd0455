//! Answers that were paid for and not committed, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Commit, Delivery, Drafted};
use server::{Server, answered, castle, draft, everything, failure, given_up, one};
use story::Agent::Narrator as NARRATOR;
use story::{EventId, Seq};

fn response(delivery: &Delivery) -> EventId {
    delivery.work.as_ref().unwrap().response(NARRATOR)
}

async fn read(bus: &Bus) -> Delivery {
    one(bus.reader(NARRATOR, "w1").next(1).await.unwrap())
}

async fn keep(bus: &Bus, delivery: &Delivery, begun: &str, answer: &str) -> Drafted {
    let draft = draft(delivery, response(delivery));
    let kept = bus.keep_paid(&draft, begun.as_bytes(), answer.as_bytes());
    kept.await.unwrap()
}

/// How the turn was begun, and the answers.
async fn paid(bus: &Bus, delivery: &Delivery) -> Option<(String, Vec<String>)> {
    let fetched = bus.context(delivery, (10, None), 0).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (begun, answers) = fetched.paid?;
    Some((text(begun), answers.into_iter().map(text).collect()))
}

fn is_kept(server: &Server) -> bool {
    let keys = everything(&mut server.raw());
    keys.iter().any(|(key, _)| key.ends_with(":paid"))
}

#[tokio::test]
async fn what_was_paid_for_is_there_until_the_turn_ends() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = read(&bus).await;
    assert_eq!(paid(&bus, &delivery).await, None);
    for answer in ["one", "two"] {
        assert_eq!(keep(&bus, &delivery, "b", answer).await, Drafted::Ok);
    }
    let both = vec!["one".to_owned(), "two".to_owned()];
    let again = one(bus
        .reclaim(NARRATOR, "w2", Duration::ZERO, 1)
        .await
        .unwrap());
    assert_eq!(paid(&bus, &again).await, Some(("b".to_owned(), both)));
    let effects = Commit {
        responses: vec![response(&again)],
        ..answered(&again)
    };
    bus.commit(&again, &effects).await.unwrap();
    assert!(!is_kept(&server));
}

#[tokio::test]
async fn a_burial_ends_it_too() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = read(&bus).await;
    keep(&bus, &delivery, "b", "one").await;
    let failed = failure("castle", "f", "a");
    bus.bury(&delivery, &given_up(Some(failed))).await.unwrap();
    assert!(!is_kept(&server));
}

#[tokio::test]
async fn answers_of_a_turn_that_was_begun_otherwise_go() {
    let (_server, bus) = castle(&["a"]).await;
    let delivery = read(&bus).await;
    keep(&bus, &delivery, "b", "one").await;
    keep(&bus, &delivery, "c", "two").await;
    let only = Some(("c".to_owned(), vec!["two".to_owned()]));
    assert_eq!(paid(&bus, &delivery).await, only);
}

#[tokio::test]
async fn who_lost_the_lease_keeps_nothing() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = read(&bus).await;
    let taken = bus.reclaim(NARRATOR, "w2", Duration::ZERO, 1).await;
    assert_eq!(taken.unwrap().len(), 1);
    assert_eq!(keep(&bus, &delivery, "b", "one").await, Drafted::Stale);
    assert!(!is_kept(&server));
}

#[tokio::test]
async fn the_log_is_read_as_it_was_up_to_a_place() {
    let (_server, bus) = castle(&["a", "b", "c"]).await;
    let delivery = read(&bus).await;
    let until = Some(Seq(2));
    let fetched = bus.context(&delivery, (10, until), 0).await.unwrap();
    let seqs: Vec<u64> = fetched
        .context
        .history
        .iter()
        .map(|entry| entry.seq.0)
        .collect();
    assert_eq!(seqs, [1, 2]);
}
