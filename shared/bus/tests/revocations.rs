//! Tokens that count no more, against a real Redis: every node hears of each, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::collections::HashSet;
use std::time::Duration;

use bus::{Bus, Error, Revocation, Revocations, Revoked};
use redis::Commands;
use server::Server;

const SET: &str = "sf:{0}:revoked";
const UNTIL: &str = "sf:{0}:revoked-until";
/// Whoever waits for a subscription to be doubted waits longer.
const QUIET: Duration = Duration::from_secs(5);
/// Nothing here expires.
const LATE: u64 = 1 << 40;

fn user(sub: &str) -> Revoked {
    Revoked::User(sub.to_owned())
}

async fn next(revocations: &mut Revocations) -> Revocation {
    let next = tokio::time::timeout(Duration::from_secs(20), revocations.next()).await;
    next.expect("a revocation").unwrap()
}

async fn next_user(revocations: &mut Revocations) -> String {
    match next(revocations).await.what {
        Revoked::User(sub) => sub,
        token => panic!("{token:?} is no user"),
    }
}

async fn revoke(bus: &Bus, sub: &str) -> Revocation {
    bus.revoke(&user(sub), 10, LATE).await.unwrap()
}

/// As another node would see it stored, without any message.
fn store(server: &Server, subs: impl IntoIterator<Item = String>, until: u64) {
    let mut pipe = redis::pipe();
    for sub in subs {
        let name = format!("sub:{sub}");
        pipe.hset(SET, &name, format!("10 {until}"));
        pipe.zadd(UNTIL, name, until);
    }
    pipe.exec(&mut server.raw()).unwrap();
}

fn now(server: &Server) -> u64 {
    let (seconds, _micros): (u64, u64) = redis::cmd("TIME").query(&mut server.raw()).unwrap();
    seconds
}

async fn subs(bus: &Bus) -> HashSet<String> {
    let all = bus.revocations().await.unwrap();
    let count = all.len();
    let subs: HashSet<_> = all
        .into_iter()
        .map(|each| format!("{:?}", each.what))
        .collect();
    assert_eq!(subs.len(), count, "each once");
    subs
}

#[tokio::test]
async fn every_node_hears_what_was_revoked_before_it_came_and_then_each_at_once() {
    let server = Server::start();
    let (one, two) = (server.bus(), server.bus());
    let before = one.revoke(&Revoked::Token("a b:c".into()), 5, LATE).await;
    let (mut first, mut second) = (one.feeds().revocations(), two.feeds().revocations());
    let begun = tokio::time::Instant::now();
    for node in [&mut first, &mut second] {
        assert!(!node.is_caught_up());
        assert_eq!(&next(node).await, before.as_ref().unwrap());
        assert!(node.is_caught_up());
    }
    assert!(begun.elapsed() < QUIET, "they waited for silence");
    for sub in ["mira", "", "jti:x", "Zoë 7"] {
        let revoked = revoke(&two, sub).await;
        let begun = tokio::time::Instant::now();
        for node in [&mut first, &mut second] {
            assert_eq!(next(node).await, revoked);
        }
        assert!(begun.elapsed() < QUIET, "it was read, not told");
    }
}

#[tokio::test]
async fn a_listener_is_told_each_time_that_it_knows_all() {
    let mut server = Server::durable();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    let known = async |heard: &mut Revocations| {
        let next = tokio::time::timeout(Duration::from_secs(20), heard.next_or_caught_up());
        next.await.expect("a word").unwrap()
    };
    assert_eq!(known(&mut heard).await, None, "there are none");
    let one = revoke(&bus, "mira").await;
    assert_eq!(known(&mut heard).await, Some(one));
    server.kill();
    server.restart();
    assert_eq!(known(&mut heard).await, None, "none was missed");
    assert!(heard.is_caught_up());
    // Known already, and whoever comes now is given it before it knows all.
    let mut late = server.bus().feeds().revocations();
    assert!(known(&mut late).await.is_some());
    assert_eq!(known(&mut late).await, None);
}

#[tokio::test]
async fn a_later_revocation_extends_and_never_shortens() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    let what = user("mira");
    let calls = [
        ((10, LATE), (10, LATE), true),
        ((5, LATE - 9), (10, LATE), false),
        ((10, LATE + 1), (10, LATE + 1), true),
        ((20, LATE), (20, LATE + 1), true),
        ((u64::MAX, 0), (1 << 53, LATE + 1), true),
    ];
    for ((at, until), stored, is_news) in calls {
        let revoked = bus.revoke(&what, at, until).await.unwrap();
        assert_eq!((revoked.at, revoked.until), stored);
        let all = bus.revocations().await.unwrap();
        assert_eq!(all, std::slice::from_ref(&revoked));
        if is_news {
            assert_eq!(next(&mut heard).await, revoked);
        }
    }
    let other = revoke(&bus, "other").await;
    assert_eq!(next(&mut heard).await, other);
}

#[tokio::test]
async fn a_set_that_lost_the_later_revocation_takes_nothing_back() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    let told = bus.revoke(&user("mira"), 20, LATE).await.unwrap();
    assert_eq!(next(&mut heard).await, told);
    // As of a replica that took over before it had that one, and to which it is told anew in part.
    store(&server, ["mira".to_owned(), "oren".to_owned()], LATE);
    assert_eq!(next_user(&mut heard).await, "oren");
    bus.revoke(&user("mira"), 15, LATE + 1).await.unwrap();
    let longer = Revocation {
        until: LATE + 1,
        ..told
    };
    assert_eq!(next(&mut heard).await, longer);
}

#[tokio::test]
async fn who_writes_removes_what_is_over_some_at_a_time() {
    let server = Server::start();
    let (bus, now) = (server.bus(), now(&server));
    store(&server, (0..150).map(|i| i.to_string()), now - 90);
    store(&server, ["just-over".to_owned()], now - 30);
    for left in [52, 2, 2] {
        revoke(&bus, "mira").await;
        let counts: (u64, u64) = redis::pipe()
            .hlen(SET)
            .zcard(UNTIL)
            .query(&mut server.raw())
            .unwrap();
        assert_eq!(counts, (left, left));
    }
    let left = ["User(\"just-over\")", "User(\"mira\")"].map(str::to_owned);
    assert_eq!(subs(&bus).await, left.into());
}

#[tokio::test]
async fn an_id_has_its_bound() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    let largest = "x".repeat(bus::MAX_ID_BYTES);
    for what in [user(&largest), Revoked::Token(largest)] {
        let revoked = bus.revoke(&what, u64::MAX, u64::MAX).await.unwrap();
        assert_eq!(next(&mut heard).await, revoked);
        let (Revoked::User(id) | Revoked::Token(id)) = what;
        let refused = bus.revoke(&user(&(id + "x")), 1, LATE).await.unwrap_err();
        assert!(matches!(refused, Error::Oversized { bytes: 257, .. }));
    }
}

#[tokio::test]
async fn a_lost_connection_costs_no_revocation_and_repeats_none() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    for sub in ["a", "b", "c", "d"] {
        for kind in ["pubsub", "normal"] {
            let mut kill = redis::cmd("CLIENT");
            kill.arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]);
            kill.exec(&mut server.raw()).unwrap();
        }
        revoke(&bus, sub).await;
        assert_eq!(next_user(&mut heard).await, sub);
    }
}

#[tokio::test]
async fn a_restart_of_redis_costs_no_revocation() {
    let mut server = Server::durable();
    let bus = server.bus();
    let mut nodes = [server.bus(), server.bus()].map(|node| node.feeds().revocations());
    revoke(&bus, "a").await;
    for heard in &mut nodes {
        assert_eq!(next_user(heard).await, "a");
    }
    server.kill();
    for heard in &mut nodes {
        let away = tokio::time::timeout(Duration::from_millis(300), heard.next()).await;
        assert!(away.is_err(), "a listener waits for Redis: {away:?}");
        assert!(heard.is_lost() && !heard.is_caught_up());
    }
    server.restart();
    let begun = tokio::time::Instant::now();
    // Nobody is subscribed yet.
    revoke(&bus, "b").await;
    for heard in &mut nodes {
        assert_eq!(next_user(heard).await, "b");
        assert!(heard.is_caught_up());
    }
    assert!(begun.elapsed() < QUIET, "they waited for silence");
}

#[tokio::test]
async fn what_no_message_told_is_read_when_it_is_quiet() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    revoke(&bus, "a").await;
    assert_eq!(next_user(&mut heard).await, "a");
    store(&server, ["unheard".to_owned()], LATE);
    assert_eq!(next_user(&mut heard).await, "unheard");
}

#[tokio::test]
async fn a_listener_that_is_often_interrupted_hears_each_once() {
    let server = Server::start();
    let bus = server.bus();
    store(&server, (0..1_300).map(|i| format!("before {i}")), LATE);
    let (mut heard, mut subs) = (bus.feeds().revocations(), Vec::new());
    let listen = async {
        // Both sides of what never was: it is dropped at each place where it may wait.
        while subs.len() < 1_500 {
            tokio::select! {
                biased;
                next = heard.next() => subs.push(next.unwrap().what),
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let speak = async {
        for i in 0..200 {
            revoke(&bus, &format!("new {i}")).await;
        }
    };
    let both = async { tokio::join!(listen, speak) };
    tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .expect("all of them");
    let each: HashSet<_> = subs.iter().collect();
    assert_eq!(each.len(), subs.len());
}

#[tokio::test]
async fn a_listener_that_is_too_slow_for_the_channel_misses_none() {
    let server = Server::start();
    let bus = server.bus();
    let mut heard = bus.feeds().revocations();
    revoke(&bus, "first").await;
    assert_eq!(next_user(&mut heard).await, "first");
    for i in 0..1_200 {
        revoke(&bus, &i.to_string()).await;
    }
    let mut subs = HashSet::new();
    while subs.len() < 1_200 {
        assert!(subs.insert(next_user(&mut heard).await), "each once");
    }
}

#[tokio::test]
async fn what_cannot_be_read_hides_nothing_beside_it() {
    let server = Server::start();
    let bus = server.bus();
    let mut raw = server.raw();
    for (name, value) in [("sub:a", "x"), ("other:a", "1 2"), ("", "")] {
        let _: u64 = raw.hset(SET, name, value).unwrap();
    }
    revoke(&bus, "mira").await;
    let mut heard = bus.feeds().revocations();
    assert_eq!(next_user(&mut heard).await, "mira");
    let huge = "x".repeat(10_000);
    for message in ["", "1 2", "nonsense", &huge] {
        let mut publish = redis::cmd("SPUBLISH");
        publish.arg("sf:{0}:revocations").arg(message);
        assert_eq!(publish.query::<u64>(&mut raw).unwrap(), 1);
    }
    // What is spoilt is mended by whoever revokes it.
    let mended = revoke(&bus, "a").await;
    assert_eq!(next(&mut heard).await, mended);
}

#[tokio::test]
async fn a_lost_reply_revokes_all_the_same() {
    let server = Server::start();
    let network = server::network::Network::before(&server.url());
    let bus = network.bus(1);
    network.lose_reply("sub:mira");
    let revoked = revoke(&bus, "mira").await;
    assert!(network.has_failed());
    assert_eq!(bus.revocations().await.unwrap(), [revoked]);
}
