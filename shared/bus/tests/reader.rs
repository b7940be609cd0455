//! A reader of many shards: it hears of all of them, and takes no more than it has room for.

mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Bus, Commit, Delivery, Reader, Settings};
use server::{Server, action, create};
use story::{Agent, Policies};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

const NARRATOR: Agent = Agent::Narrator;
/// What is waited for comes sooner.
const LONG: Duration = Duration::from_secs(60);
const SHARDS: u16 = 8;
/// So many that each shard has some of them.
const STORIES: usize = 48;

async fn bus_with_stories(server: &Server) -> Bus {
    let settings = Settings {
        shards: SHARDS,
        ..Settings::new(server.url())
    };
    let bus = Bus::new(settings).expect("the settings are good");
    for n in 0..STORIES {
        create(&bus, &format!("s{n}"), Policies::default()).await;
    }
    bus
}

async fn some(reader: &mut Reader, free: usize) -> Vec<Delivery> {
    let found = async {
        loop {
            let found = reader.next(free).await.expect("a read");
            if !found.is_empty() {
                return found;
            }
        }
    };
    timeout(LONG, found).await.expect("an event")
}

/// Until the server has a client that waits for an event.
async fn idle(raw: &mut redis::Connection) {
    let waits = async {
        loop {
            let info: Result<String, _> = redis::cmd("INFO").arg("clients").query(raw);
            let info = info.expect("INFO");
            if info.contains("blocked_clients:1") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, waits).await.expect("a client that waits");
}

#[tokio::test]
async fn an_idle_reader_hears_of_an_event_in_any_shard_at_once() {
    let server = Server::start();
    let bus = bus_with_stories(&server).await;
    let mut raw = server.raw();
    for free in [64, 3, 1] {
        let mut reader = bus.reader(NARRATOR, "w1");
        // The quickest of each shard: the machine may be busy, but not each time.
        let mut waits = BTreeMap::<u16, Duration>::new();
        for n in 0..STORIES {
            let event = action(&format!("s{n}"), &format!("free-{free}"));
            let publish = async {
                idle(&mut raw).await;
                let published = Instant::now();
                bus.publish(&event).await.unwrap();
                published
            };
            let (mut found, published) = tokio::join!(some(&mut reader, free), publish);
            let wait = published.elapsed();
            let delivery = found.remove(0);
            let quickest = waits.entry(delivery.lease.shard).or_insert(wait);
            *quickest = wait.min(*quickest);
            bus.commit(&delivery, &Commit::default()).await.unwrap();
        }
        assert_eq!(waits.len(), usize::from(SHARDS));
        let late = |wait: &Duration| *wait >= Duration::from_millis(100);
        assert!(!waits.values().any(late), "{free} free: {waits:?}");
    }
}

#[tokio::test]
async fn a_reader_takes_as_much_as_it_has_room_for() {
    let server = Server::start();
    let bus = bus_with_stories(&server).await;
    for n in 0..STORIES {
        bus.publish(&action(&format!("s{n}"), "a")).await.unwrap();
    }
    let mut reader = bus.reader(NARRATOR, "w1");
    let mut taken = 0;
    for free in [1, 3, 7, 8, 9, 64].into_iter().cycle() {
        if taken == STORIES {
            break;
        }
        let found = some(&mut reader, free).await;
        assert_eq!(found.len(), free.min(STORIES - taken));
        taken += found.len();
    }
    let backlog = bus.backlog(NARRATOR).await.unwrap();
    assert_eq!(backlog, STORIES as u64);
}

/// One node that has all slots.
fn cluster() -> (Server, Bus) {
    let server = Server::node();
    let mut slots = redis::cmd("CLUSTER");
    slots.arg(("ADDSLOTSRANGE", 0, 16_383));
    slots.exec(&mut server.raw()).expect("its slots");
    let settings = Settings {
        shards: 16,
        ..Settings::new(server.url().replace("redis://", "redis+cluster://"))
    };
    (server, Bus::new(settings).expect("the settings are good"))
}

#[tokio::test]
async fn a_reader_of_a_cluster_with_nothing_to_do_asks_less_and_less() {
    let (server, bus) = cluster();
    // A cluster refuses at first, and what was asked then may be answered late.
    let mut raw = server.raw();
    let mut serves = || -> redis::RedisResult<bool> {
        let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut raw)?;
        Ok(info.contains("cluster_state:ok"))
    };
    let ready = async {
        while !serves().expect("its state") {
            yield_now().await;
        }
    };
    timeout(LONG, ready).await.expect("it serves");
    let mut reader = bus.reader(NARRATOR, "w1");
    let none = reader.next(64).await.expect("a read");
    assert!(none.is_empty());
    let before = server::commands(&server);
    let began = Instant::now();
    let mut looks = 0;
    while began.elapsed() < Duration::from_secs(4) {
        let found = reader.next(64).await.expect("a read");
        assert!(found.is_empty());
        looks += 1;
    }
    // 50, 100 and 200 ms at first, then 400 each.
    assert!((2..=13).contains(&looks), "{looks} looks");
    let asked = server::commands(&server) - before;
    // Each shard, and one to wait on; then the question itself.
    assert!(
        asked <= looks * 17 + 50,
        "{asked} commands in {looks} looks"
    );
}
