//! A Redis whose clock is behind that of the one before it, as after a failover: nothing is kept from anybody for long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bus::{Admitted, Bus};
use redis::Commands;

use crate::server::Server;
use crate::wish::Wish;
use crate::{is_over, waits};

const BUCKET: &str = "sf:{0}:admission:bucket:m";
const HOUR: Duration = Duration::from_secs(3_600);

/// In ms, as Redis has it.
fn in_future(far: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((now + far).as_millis()).unwrap()
}

async fn goes_soon(wish: &Wish, bus: &Bus) {
    let goes = tokio::time::timeout(Duration::from_secs(8), wish.wait(bus)).await;
    goes.expect("it goes in seconds");
}

#[tokio::test]
async fn a_bucket_of_the_future_fills_up() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let fill = Wish::new("a", 1_000).per_minute(6_000);
    assert_eq!(fill.admit(&bus).await, Admitted::Go);
    let () = raw.hset(BUCKET, "tokens_at", in_future(HOUR)).unwrap();
    let next = Wish::new("b", 50).per_minute(6_000);
    assert!(waits(next.admit(&bus).await));
    goes_soon(&next, &bus).await;
}

#[tokio::test]
async fn a_pause_of_the_future_is_ten_minutes_at_most() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let () = raw.hset(BUCKET, "until", in_future(HOUR)).unwrap();
    assert!(waits(Wish::new("a", 1).admit(&bus).await));
    let until: u64 = raw.hget(BUCKET, "until").unwrap();
    assert!(until <= in_future(HOUR / 6), "{until}");
}

#[tokio::test]
async fn a_pause_is_ten_minutes_at_most_whatever_is_asked_for() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let told = Wish::new("a", 1);
    assert_eq!(told.admit(&bus).await, Admitted::Go);
    let settled = bus.settle(&told.ask("1"), None, Duration::MAX).await;
    assert!(settled.unwrap(), "it held something");
    let until: u64 = raw.hget(BUCKET, "until").unwrap();
    assert!(until <= in_future(HOUR / 6), "{until}");
}

#[tokio::test]
async fn a_provider_that_tells_nonsense_stops_its_model_for_little_more_than_a_minute() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let told = Wish::new("a", 10).per_minute(6_000);
    assert_eq!(told.admit(&bus).await, Admitted::Go);
    assert!(told.settle(&bus, 8_000_000_000).await);
    let left: f64 = raw.hget(BUCKET, "tokens").unwrap();
    assert!((-6_000.0..0.0).contains(&left), "{left}");
}

#[tokio::test]
async fn a_hold_of_the_future_ends_with_its_life() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let mut dead = Wish::new("a", 1).within(1).at_once(1);
    dead.life = Duration::from_millis(300);
    assert_eq!(dead.admit(&bus).await, Admitted::Go);
    let holds = "sf:{0}:admission:holds";
    let () = raw.zadd(holds, "a:0", in_future(HOUR)).unwrap();
    goes_soon(&Wish::new("b", 1).at_once(1), &bus).await;
    assert!(is_over(Wish::new("c", 1).within(1).admit(&bus).await));
}

#[tokio::test]
async fn who_waited_in_the_future_is_not_waited_for() {
    let server = Server::start();
    let (bus, mut raw) = (server.bus(), server.raw());
    let fill = Wish::new("a", 1).at_once(1);
    assert_eq!(fill.admit(&bus).await, Admitted::Go);
    let gone = Wish::new("b", 1).of("first").at_once(1);
    assert!(waits(gone.admit(&bus).await));
    let waiters = "sf:{0}:admission:waiters:m";
    let known: String = raw.hget(waiters, "b:0").unwrap();
    let later = format!("1 {} 1", in_future(HOUR));
    assert_eq!(known.split(' ').next(), later.split(' ').next());
    let () = raw.hset(waiters, "b:0", later).unwrap();
    fill.settle(&bus, 1).await;
    let next = Wish::new("c", 1).of("second").at_once(1);
    goes_soon(&next, &bus).await;
}
