//! Models that fail are left alone by the whole installation, and retries are a tenth of its calls, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

#[path = "server/mod.rs"]
mod server;

use std::time::Duration;

use bus::{Bus, Fared, State, Wanted};
use redis::Commands;
use server::Server;

const HEALTH: &str = "sf:{0}:admission:health";

fn fared(answered: usize, failed: usize) -> Fared {
    let mut fared = Fared {
        model: "http://one m".to_owned(),
        has_next: true,
        ..Fared::default()
    };
    let ends = std::iter::repeat_n(true, answered).chain(std::iter::repeat_n(false, failed));
    ends.for_each(|answered| fared.ends(answered));
    fared
}

async fn state(bus: &Bus, fared: Fared) -> State {
    state_of(bus, 'a', fared).await
}

async fn state_of(bus: &Bus, letter: char, fared: Fared) -> State {
    let asked = (0, Wanted::Nothing);
    let health = bus.health(letter, asked, &[fared]).await.unwrap();
    health.models[0]
}

fn is_open(state: State) -> bool {
    matches!(state, State::Open { .. })
}

fn again(state: State) -> Duration {
    match state {
        State::Open { again, .. } => again,
        other => panic!("{other:?}"),
    }
}

/// Has the time come when an open model may be tried again.
fn comes_due(server: &Server) {
    let mut raw = server.raw();
    let field = "m:http://one m";
    let kept: String = raw.hget(HEALTH, field).unwrap();
    let mut words: Vec<&str> = kept.split(' ').collect();
    words[1] = "1";
    let () = raw.hset(HEALTH, field, words.join(" ")).unwrap();
}

async fn opened(server: &Server) -> Bus {
    let bus = server.bus();
    assert!(is_open(state(&bus, fared(0, 5)).await));
    bus
}

#[tokio::test]
async fn a_model_opens_after_five_failures_in_a_row_or_half_of_twenty() {
    // Rounds of answers and failures, in their order, and after which of them it is open.
    for (rounds, opens) in [
        (vec![(0, 4), (0, 1)], Some(2)),
        (vec![(0, 4), (1, 4)], None),
        (vec![(9, 4), (1, 4), (1, 1)], None),
        (vec![(9, 4), (1, 4), (0, 1), (0, 0)], Some(3)),
        (vec![(6, 4), (2, 3), (2, 3)], Some(3)),
        // Nothing but the last twenty counts.
        (vec![(3, 4), (1, 4), (20, 0), (0, 4)], None),
        (vec![(10_000, 0), (0, 4)], None),
        (vec![(10_000, 10_000)], Some(1)),
    ] {
        let server = Server::start();
        let bus = server.bus();
        let mut opened = None;
        for (n, (answered, failed)) in rounds.iter().enumerate() {
            if is_open(state(&bus, fared(*answered, *failed)).await) {
                opened.get_or_insert(n + 1);
            }
        }
        assert_eq!(opened, opens, "{rounds:?}");
    }
}

#[tokio::test]
async fn a_model_that_says_so_opens_at_once_for_a_minute_at_most() {
    let server = Server::start();
    let bus = server.bus();
    for (asked, most) in [(30, 30), (3_600, 60)] {
        let told = Fared {
            shut: Duration::from_secs(asked),
            ..fared(0, 1)
        };
        let again = again(state(&bus, told).await);
        let most = Duration::from_secs(most);
        assert!(
            again > most - Duration::from_secs(5) && again <= most,
            "{again:?}"
        );
    }
}

#[tokio::test]
async fn one_asker_at_a_time_tries_an_open_model_and_its_answer_closes_it() {
    let server = Server::start();
    let bus = opened(&server).await;
    let tries = || Fared {
        tries: true,
        ..fared(0, 0)
    };
    assert!(is_open(state(&bus, tries()).await), "it is too early");
    // What began before it opened says nothing.
    assert!(is_open(state(&bus, fared(1, 0)).await));
    comes_due(&server);
    assert!(is_open(state(&bus, fared(0, 0)).await), "nobody tries it");
    assert!(matches!(state(&bus, tries()).await, State::Trial { .. }));
    let other = again(state(&bus, tries()).await);
    assert!(other > Duration::from_secs(5), "{other:?}");
    assert_eq!(state(&bus, fared(1, 0)).await, State::Closed);
    // It begins anew.
    assert_eq!(state(&bus, fared(0, 4)).await, State::Closed);
}

#[tokio::test]
async fn each_try_in_vain_doubles_the_time_to_the_next_up_to_a_minute() {
    let server = Server::start();
    let bus = opened(&server).await;
    for seconds in [10, 20, 40, 60, 60] {
        comes_due(&server);
        let again = again(state(&bus, fared(0, 1)).await);
        let most = Duration::from_secs(seconds);
        assert!(
            again > most - Duration::from_secs(3) && again <= most,
            "{again:?}"
        );
    }
}

#[tokio::test]
async fn other_models_are_as_they_are() {
    let server = Server::start();
    let bus = opened(&server).await;
    let other = Fared {
        model: "http://two m".to_owned(),
        ..fared(0, 4)
    };
    let both = [fared(0, 0), other];
    let asked = (0, Wanted::Nothing);
    let health = bus.health('a', asked, &both).await.unwrap();
    assert!(is_open(health.models[0]));
    assert_eq!(health.models[1], State::Closed);
}

async fn may(bus: &Bus, calls: u64, wanted: Wanted) -> bool {
    may_of(bus, "http://one m", (calls, wanted)).await
}

async fn may_of(bus: &Bus, first: &str, asked: (u64, Wanted)) -> bool {
    let first = Fared {
        model: first.to_owned(),
        ..Fared::default()
    };
    bus.health('a', asked, &[first]).await.unwrap().granted
}

async fn retries(bus: &Bus) -> u64 {
    let mut granted = 0;
    while may(bus, 0, Wanted::Retry).await {
        granted += 1;
        assert!(granted < 1_000, "there is no end to them");
    }
    granted
}

#[tokio::test]
async fn retries_are_a_tenth_of_the_calls_and_a_few() {
    let server = Server::start();
    let bus = server.bus();
    assert_eq!(retries(&bus).await, 20);
    assert!(!may(&bus, 9, Wanted::Retry).await);
    assert!(may(&bus, 1, Wanted::Retry).await);
    assert!(!may(&bus, 0, Wanted::Retry).await);
    assert!(may(&bus, 1_000, Wanted::Nothing).await);
    assert_eq!(retries(&bus).await, 100);
    may(&bus, 1_000_000, Wanted::Nothing).await;
    assert_eq!(retries(&bus).await, 500);
}

#[tokio::test]
async fn another_model_is_never_refused_and_is_taken_from_the_retries() {
    let server = Server::start();
    let bus = server.bus();
    for _ in 0..200 {
        assert!(may(&bus, 0, Wanted::Fallback).await);
    }
    assert!(!may(&bus, 1_000, Wanted::Retry).await, "100 were owed");
    assert!(may(&bus, 10, Wanted::Retry).await);
}

#[tokio::test]
async fn where_no_retry_is_left_a_tenth_of_failures_opens_a_model() {
    let server = Server::start();
    let bus = server.bus();
    assert_eq!(state(&bus, fared(18, 1)).await, State::Closed);
    assert_eq!(state(&bus, fared(5, 1)).await, State::Closed);
    retries(&bus).await;
    assert!(is_open(state(&bus, fared(0, 0)).await));
}

#[tokio::test]
async fn after_the_clock_went_back_nothing_is_open_for_long() {
    let server = Server::start();
    let bus = opened(&server).await;
    let mut raw = server.raw();
    let far = "-xaxaxaxaxa 99999999999999 99999999999999 0 99999999999999";
    let () = raw.hset(HEALTH, "m:http://one m", far).unwrap();
    let again = again(state(&bus, fared(0, 0)).await);
    assert!(again <= Duration::from_secs(60), "{again:?}");
    let () = raw
        .hset(HEALTH, "r:http://one m", "0 99999999999999")
        .unwrap();
    assert!(may(&bus, 10, Wanted::Retry).await);
}

#[tokio::test]
async fn who_only_looks_writes_nothing() {
    let server = Server::start();
    let bus = server.bus();
    let mut raw = server.raw();
    let written = |raw: &mut redis::Connection| -> String {
        let stats: String = redis::cmd("INFO").arg("commandstats").query(raw).unwrap();
        let hset = stats.lines().find(|line| line.starts_with("cmdstat_hset:"));
        let calls = hset.and_then(|line| line.split(',').next());
        calls.unwrap_or_default().to_owned()
    };
    assert_eq!(state(&bus, fared(0, 0)).await, State::Closed);
    assert_eq!(written(&mut raw), "");
    state(&bus, fared(0, 5)).await;
    let before = written(&mut raw);
    // How it is, that it was asked about, and that no other was found that is not.
    assert_eq!(before, "cmdstat_hset:calls=3");
    assert!(is_open(state(&bus, fared(0, 0)).await));
    assert_eq!(written(&mut raw), before);
}

#[tokio::test]
async fn a_worker_that_reaches_no_model_closes_it_for_nobody_who_does() {
    let server = Server::start();
    let bus = server.bus();
    state_of(&bus, 'a', fared(3, 0)).await;
    assert_eq!(state_of(&bus, 'b', fared(0, 9)).await, State::Closed);
    // It is the model's where another one fails too, or who has had answers.
    assert!(is_open(state_of(&bus, 'a', fared(0, 2)).await));

    let server = Server::start();
    let bus = server.bus();
    state_of(&bus, 'a', fared(3, 0)).await;
    assert!(is_open(state_of(&bus, 'b', fared(1, 5)).await));
}

#[tokio::test]
async fn the_order_of_what_was_told_in_vain_is_kept() {
    let mut later = fared(1, 0);
    later.after(&fared(0, 9));
    let server = Server::start();
    let bus = server.bus();
    assert_eq!(state(&bus, later).await, State::Closed);
    let mut later = fared(0, 1);
    later.after(&fared(9, 4));
    assert!(is_open(state(&bus, later).await));
}

#[tokio::test]
async fn a_model_without_another_in_its_place_opens_for_no_want_of_retries() {
    let server = Server::start();
    let bus = server.bus();
    let alone = |answered, failed| Fared {
        has_next: false,
        ..fared(answered, failed)
    };
    retries(&bus).await;
    assert_eq!(state(&bus, alone(11, 4)).await, State::Closed);
    assert_eq!(state(&bus, alone(4, 1)).await, State::Closed);
    assert!(is_open(state(&bus, fared(0, 0)).await));
}

#[tokio::test]
async fn who_asks_another_model_first_has_retries_of_its_own() {
    let server = Server::start();
    let bus = server.bus();
    assert_eq!(retries(&bus).await, 20);
    assert!(may_of(&bus, "other", (0, Wanted::Retry)).await);
}

#[tokio::test]
async fn a_look_at_the_fleet_tells_the_models_that_are_open() {
    let server = Server::start();
    let bus = server.bus();
    state(&bus, fared(5, 0)).await;
    assert_eq!(bus.fleet().await.unwrap().open, []);
    state(&bus, fared(0, 5)).await;
    let open = bus.fleet().await.unwrap().open;
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].model, "http://one m");
    assert!(open[0].since < Duration::from_secs(60), "{open:?}");

    let () = server.raw().hset(HEALTH, "m:other", "x").unwrap();
    assert_eq!(bus.fleet().await.unwrap().open.len(), 1);
    let limited = server::user(&server, &["+@all", "-hgetall"]);
    assert_eq!(limited.fleet().await.unwrap().open, []);
}

/// As one that is served to an account whose key was renewed: nothing closes the old one.
#[tokio::test]
async fn an_open_model_that_nobody_asks_about_is_forgotten() {
    let server = Server::start();
    let bus = opened(&server).await;
    let mut raw = server.raw();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut raw).unwrap();
    let mut last_asked = |minutes: u64| {
        let at = (seconds - minutes * 60) * 1_000;
        let fields = [("s:http://one m", at), ("swept", at)];
        let () = raw.hset_multiple(HEALTH, &fields).unwrap();
    };
    let open = async || bus.fleet().await.unwrap().open.len();
    last_asked(4);
    assert_eq!(open().await, 1);
    last_asked(6);
    assert_eq!(open().await, 0);
    let other = Fared {
        model: "http://two m".to_owned(),
        ..fared(1, 0)
    };
    state(&bus, other).await;
    let kept: Vec<String> = server.raw().hkeys(HEALTH).unwrap();
    assert_eq!(
        kept.iter().filter(|it| it.contains("one")).count(),
        0,
        "{kept:?}"
    );
    // Who asks about it again finds it closed.
    assert_eq!(state(&bus, fared(0, 0)).await, State::Closed);
}
