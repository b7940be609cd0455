//! What retention leaves of a log, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Retention, Seen};
use redis::Commands;
use server::{Server, action, castle, story};
use story::Seq;

const HOUR: Duration = Duration::from_secs(3600);

/// A story of 250 actions, which is more than one run of the script looks at.
async fn long_castle() -> (Server, Bus) {
    let (server, bus) = castle(&[]).await;
    for i in 1..=250 {
        bus.publish(&action("castle", &format!("a{i}")))
            .await
            .unwrap();
    }
    (server, bus)
}

async fn trim(bus: &Bus, events: u64, age: Duration) -> u64 {
    let keep = Retention { events, age };
    bus.trim(&story("castle"), keep).await.unwrap()
}

#[tokio::test]
async fn only_what_is_both_old_and_far_behind_goes() {
    let (_server, bus) = long_castle().await;
    assert_eq!(trim(&bus, 3, HOUR).await, 0);
    assert_eq!(trim(&bus, 250, Duration::ZERO).await, 0);
    assert_eq!(trim(&bus, 3, Duration::ZERO).await, 247);
    let left = bus.log(&story("castle"), Seq(0), 10).await.unwrap();
    let left: Vec<u64> = left.iter().map(|entry| entry.seq.0).collect();
    assert_eq!(left, [248, 249, 250]);
    assert_eq!(trim(&bus, 3, Duration::ZERO).await, 0);
}

#[tokio::test]
async fn what_went_is_not_missed_by_the_audit_and_its_ids_still_count_once() {
    let (server, bus) = long_castle().await;
    // Trimming is what helps a full Redis.
    for (bytes, removed) in [("1", 247), ("0", 0)] {
        let mut limit = redis::cmd("CONFIG");
        limit.arg(&["SET", "maxmemory", bytes]);
        limit.exec(&mut server.raw()).unwrap();
        assert_eq!(trim(&bus, 3, Duration::ZERO).await, removed);
    }
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.events, audit.in_flight, audit.lost), (3, 3, 0));
    let again = bus.publish(&action("castle", "a1")).await.unwrap();
    assert_eq!(again, bus::Published::Duplicate);
}

#[tokio::test]
async fn a_tombstone_goes_with_its_time_and_an_old_cursor_gets_a_gap() {
    let (server, bus) = long_castle().await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    watch.next().await.unwrap();
    let cursor = watch.cursor().clone();
    drop(watch);
    let mut raw = server.raw();
    for seq in [7, 249] {
        let _: u64 = raw
            .xdel("sf:{0}:log:castle", &[format!("{seq}-0")])
            .unwrap();
        let tombstone = action("castle", &format!("a{seq}")).encode();
        let _: u64 = raw.hset("sf:{0}:gone:castle", seq, tombstone).unwrap();
    }
    trim(&bus, 3, Duration::ZERO).await;
    let gone: Vec<u64> = raw.hkeys("sf:{0}:gone:castle").unwrap();
    assert_eq!(gone, [249]);
    let mut watch = bus.watch(&story("castle"), Some(cursor)).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Seen::Gap);
    for seq in 248..=250 {
        assert!(matches!(watch.next().await.unwrap(), Seen::Event(entry) if entry.seq == Seq(seq)));
    }
}
