//! One-use tickets, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Error, Settings};
use futures::future::join_all;
use server::network::Network;
use server::{Server, everything};

const LONG: Duration = Duration::from_secs(60);

async fn put(bus: &Bus, ticket: &str) {
    bus.put_ticket(ticket, b"mira", LONG).await.unwrap();
}

fn mira() -> Option<Vec<u8>> {
    Some(b"mira".to_vec())
}

/// Over a network, with little patience.
fn bus_over(network: &Network) -> Bus {
    let settings = Settings {
        timeout: Duration::from_millis(500),
        ..Settings::new(network.url())
    };
    Bus::new(settings).unwrap()
}

#[tokio::test]
async fn of_fifty_who_show_a_ticket_at_once_one_is_let_in() {
    let server = Server::start();
    let nodes: Vec<Bus> = (0..5).map(|_| server.bus()).collect();
    for round in 0..20 {
        let ticket = format!("ticket-{round}");
        put(&nodes[0], &ticket).await;
        let takes = (0..50).map(|i| nodes[i % 5].take_ticket(&ticket));
        let taken: Vec<_> = join_all(takes).await;
        let mut holders = taken.into_iter().filter_map(Result::unwrap);
        assert_eq!(holders.next(), mira());
        assert_eq!(holders.next(), None);
    }
}

#[tokio::test]
async fn a_ticket_is_good_for_its_time_and_no_longer() {
    let server = Server::start();
    let bus = server.bus();
    for lives in [Duration::ZERO, Duration::from_millis(50)] {
        bus.put_ticket("short", b"mira", lives).await.unwrap();
        put(&bus, "long").await;
        let mut raw = server.raw();
        let mut left = || redis::cmd("DBSIZE").query::<u64>(&mut raw).unwrap();
        let over = async {
            while left() > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), over)
            .await
            .expect("it expires");
        assert_eq!(bus.take_ticket("short").await.unwrap(), None);
        assert_eq!(bus.take_ticket("long").await.unwrap(), mira());
    }
    assert_eq!(bus.take_ticket("never").await.unwrap(), None);
}

#[tokio::test]
async fn redis_never_sees_a_ticket() {
    let server = Server::start();
    put(&server.bus(), "a-secret").await;
    let stored = everything(&mut server.raw());
    assert_eq!(stored.len(), 1);
    let (key, value) = &stored[0];
    let digest = "b4d87524393b45e7793e23f192e6a85a10bae6fb2679e996a7acb8ca60b4c88d";
    assert_eq!(key, &format!("sf:{{0}}:ticket:{digest}"));
    assert!(!value.windows(8).any(|part| part == b"a-secret"));
}

#[tokio::test]
async fn a_holder_has_its_bound() {
    let server = Server::start();
    let bus = server.bus();
    let largest = vec![0xff; 8_192];
    bus.put_ticket("t", &largest, LONG).await.unwrap();
    let larger = vec![0xff; 8_193];
    let refused = bus.put_ticket("t", &larger, LONG).await.unwrap_err();
    assert!(matches!(refused, Error::Oversized { bytes: 8_193, .. }));
    assert_eq!(bus.take_ticket("t").await.unwrap(), Some(largest));
}

#[tokio::test]
async fn a_lost_reply_lets_nobody_in_twice_and_turns_nobody_away() {
    let server = Server::start();
    let network = Network::before(&server.url());
    let bus = bus_over(&network);
    network.lose_reply("ticket:");
    put(&bus, "t").await;
    assert!(network.has_failed());

    network.lose_reply("GETDEL");
    let unknown = bus.take_ticket("t").await.unwrap_err();
    assert!(matches!(unknown, Error::Unreachable(_)), "{unknown:?}");
    assert!(network.has_failed());
    assert_eq!(bus.take_ticket("t").await.unwrap(), None);

    put(&bus, "t").await;
    network.stall("GETDEL");
    assert_eq!(bus.take_ticket("t").await.unwrap(), mira());
    assert!(network.has_failed());
}

#[tokio::test]
async fn tickets_outlive_a_restart_of_redis() {
    let mut server = Server::durable();
    let bus = server.bus();
    put(&bus, "a").await;
    server.kill();
    let away = bus.take_ticket("a").await.unwrap_err();
    assert!(matches!(away, Error::Unreachable(_)), "{away:?}");
    server.restart();
    assert_eq!(bus.take_ticket("a").await.unwrap(), mira());
    put(&bus, "b").await;
    server.kill();
    server.restart();
    // The connection of before is found dead only now.
    assert_eq!(bus.take_ticket("b").await.unwrap(), mira());
    assert_eq!(bus.take_ticket("b").await.unwrap(), None);
}
