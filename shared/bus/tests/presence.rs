//! Who is in a story, and its room, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Error, Here, Hint, Person, Room};
use server::{Server, everything, story};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);

fn person(sub: &str, connections: u32) -> Person {
    Person {
        sub: sub.to_owned(),
        name: sub.to_uppercase(),
        connections,
    }
}

async fn be_here(bus: &Bus, node: &str, people: &[Person], lives: Duration) -> bool {
    let changed = bus.be_here(&story("castle"), node, people, lives).await;
    changed.unwrap()
}

async fn here(bus: &Bus) -> Here {
    bus.who_is_here(&story("castle")).await.unwrap()
}

async fn hint(bus: &Bus, json: &[u8]) {
    bus.hint(&story("castle"), json).await.unwrap();
}

async fn next(room: &mut Room) -> Hint {
    let next = tokio::time::timeout(Duration::from_secs(20), room.next()).await;
    next.expect("a hint").unwrap()
}

/// Waits until `is_so` of a story's people.
async fn until(bus: &Bus, is_so: impl Fn(&Here) -> bool) {
    let so = async { while !is_so(&here(bus).await) {} };
    let so = tokio::time::timeout(Duration::from_secs(20), so).await;
    so.expect("it becomes so");
}

async fn until_empty(server: &Server) {
    let mut raw = server.raw();
    let empty = async {
        while redis::cmd("DBSIZE").query::<u64>(&mut raw).unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let empty = tokio::time::timeout(Duration::from_secs(20), empty).await;
    empty.expect("everything expires");
}

#[tokio::test]
async fn people_of_all_nodes_are_here_each_once() {
    let server = Server::start();
    let (one, two) = (server.bus(), server.bus());
    assert_eq!(here(&one).await, Here::default());
    be_here(&one, "n1", &[person("mira", 2), person("ann", 1)], LONG).await;
    be_here(&two, "n2", &[person("bob", 1), person("mira", 1)], LONG).await;
    let elsewhere = [person("eve", 1)];
    let moor = two.be_here(&story("moor"), "n2", &elsewhere, LONG).await;
    assert!(moor.unwrap());
    let all = Here {
        people: vec![person("ann", 1), person("bob", 1), person("mira", 3)],
        count: 3,
    };
    assert_eq!(here(&one).await, all);
    assert_eq!(here(&two).await, all);
    assert!(two.leave(&story("castle"), "n2").await.unwrap());
    assert_eq!(
        here(&one).await.people,
        [person("ann", 1), person("mira", 2)]
    );
    assert!(one.leave(&story("castle"), "n1").await.unwrap());
    assert_eq!(here(&two).await, Here::default());
}

#[tokio::test]
async fn a_node_that_is_no_more_heard_of_has_nobody_here() {
    let server = Server::start();
    let (one, two) = (server.bus(), server.bus());
    be_here(&one, "n1", &[person("mira", 1)], SHORT).await;
    assert!(be_here(&two, "n2", &[person("bob", 1)], LONG).await);
    until(&two, |here| here.people == [person("bob", 1)]).await;
    assert!(be_here(&two, "n2", &[person("bob", 1)], LONG).await);
    assert!(!be_here(&two, "n2", &[person("bob", 1)], LONG).await);
    // It was only away.
    assert!(be_here(&one, "n1", &[person("mira", 1)], LONG).await);
    assert_eq!(here(&two).await.count, 2);
    for node in ["n1", "n2"] {
        be_here(&one, node, &[person("mira", 1)], SHORT).await;
    }
    until_empty(&server).await;
}

#[tokio::test]
async fn only_a_change_of_people_is_a_change() {
    let server = Server::start();
    let bus = server.bus();
    let renamed = Person {
        name: "another".into(),
        ..person("mira", 1)
    };
    let steps: [(&[Person], bool); 9] = [
        (&[], false),
        (&[person("mira", 1), person("ann", 1)], true),
        (&[person("ann", 1), person("mira", 1)], false),
        (&[person("ann", 1), person("mira", 7)], false),
        (&[person("mira", 1)], true),
        (&[renamed], true),
        (&[], true),
        (&[], false),
        (&[person("mira", 1)], true),
    ];
    for (i, (people, changed)) in steps.into_iter().enumerate() {
        assert_eq!(be_here(&bus, "n1", people, LONG).await, changed, "{i}");
    }
}

#[tokio::test]
async fn two_hundred_are_listed_and_all_are_counted() {
    let server = Server::start();
    let bus = server.bus();
    for (count, listed) in [(200, 200), (201, 200), (1_000, 200)] {
        let people: Vec<_> = (0..count).map(|i| person(&format!("p{i}"), 1)).collect();
        assert!(be_here(&bus, "n1", &people, LONG).await);
        let here = here(&bus).await;
        assert_eq!((here.people.len(), here.count), (listed, count));
    }
}

#[tokio::test]
async fn ids_and_hints_have_their_bounds() {
    let server = Server::start();
    let (bus, castle) = (server.bus(), story("castle"));
    let largest = "x".repeat(bus::MAX_ID_BYTES);
    assert!(be_here(&bus, &largest, &[person(&largest, 1)], LONG).await);
    let larger = "x".repeat(bus::MAX_ID_BYTES + 1);
    let few = [person("mira", 1)];
    let mut room = bus.feeds().room(&castle);
    assert_eq!(next(&mut room).await, Hint::People);
    let largest = vec![b'7'; bus::MAX_HINT_BYTES];
    let before = everything(&mut server.raw());
    hint(&bus, &largest).await;
    for refused in [
        bus.be_here(&castle, &larger, &few, LONG).await.map(drop),
        bus.be_here(&castle, "n", &[person(&larger, 1)], LONG)
            .await
            .map(drop),
        bus.leave(&castle, &larger).await.map(drop),
        bus.hint(&castle, &vec![b'7'; bus::MAX_HINT_BYTES + 1])
            .await,
    ] {
        assert!(matches!(refused, Err(Error::Oversized { .. })));
    }
    assert_eq!(next(&mut room).await, Hint::Json(largest));
    assert_eq!(everything(&mut server.raw()), before, "hints are kept");
}

#[tokio::test]
async fn a_room_hears_hints_and_changes_of_its_own_story() {
    let server = Server::start();
    let (one, two) = (server.bus(), server.bus());
    let (near, far) = (one.feeds(), two.feeds());
    let mut rooms = [near.room(&story("castle")), far.room(&story("castle"))];
    let mut moor = near.room(&story("moor"));
    for room in rooms.iter_mut().chain([&mut moor]) {
        assert_eq!(next(room).await, Hint::People);
    }
    let (typing, people) = (br#"{"typing":"mira"}"#, [person("mira", 1)]);
    hint(&one, typing).await;
    be_here(&two, "n2", &people, LONG).await;
    be_here(&two, "n2", &people, LONG).await;
    hint(&two, b"{}").await;
    let heard = [
        Hint::Json(typing.to_vec()),
        Hint::People,
        Hint::Json(b"{}".to_vec()),
    ];
    for room in &mut rooms {
        for hint in &heard {
            assert_eq!(&next(room).await, hint);
        }
    }
    one.hint(&story("moor"), b"1").await.unwrap();
    assert_eq!(next(&mut moor).await, Hint::Json(b"1".to_vec()));
}

#[tokio::test]
async fn after_a_restart_of_redis_a_room_asks_again_who_is_here() {
    let mut server = Server::start();
    let bus = server.bus();
    let mut room = bus.feeds().room(&story("castle"));
    assert_eq!(next(&mut room).await, Hint::People);
    be_here(&bus, "n1", &[person("mira", 1)], LONG).await;
    assert_eq!(next(&mut room).await, Hint::People);
    server.kill();
    let away = tokio::time::timeout(Duration::from_millis(300), room.next()).await;
    assert!(away.is_err(), "a room waits for Redis: {away:?}");
    let lost = bus.hint(&story("castle"), b"lost").await.unwrap_err();
    assert!(matches!(lost, Error::Unreachable(_)), "{lost:?}");
    server.restart();
    assert_eq!(next(&mut room).await, Hint::People);
    // This Redis keeps nothing: each node says again who is at it.
    assert_eq!(here(&bus).await, Here::default());
    assert!(be_here(&bus, "n1", &[person("mira", 1)], LONG).await);
    hint(&bus, b"1").await;
    assert_eq!(next(&mut room).await, Hint::People);
    assert_eq!(next(&mut room).await, Hint::Json(b"1".to_vec()));
    assert_eq!(here(&bus).await.count, 1);
}

#[tokio::test]
async fn a_listener_that_is_too_slow_for_its_room_is_told() {
    let server = Server::start();
    let bus = server.bus();
    let mut room = bus.feeds().room(&story("castle"));
    assert_eq!(next(&mut room).await, Hint::People);
    for _ in 0..1_100 {
        hint(&bus, b"1").await;
    }
    while next(&mut room).await != Hint::People {}
}
