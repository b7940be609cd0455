//! Who may call a model, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod clock;
mod model;
mod places;
#[path = "../server/mod.rs"]
mod server;
mod wish;

use std::time::Duration;

use bus::{Admitted, Used};
use server::Server;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wish::{NO_PAUSE, Wish};

fn waits(admitted: Admitted) -> bool {
    matches!(admitted, Admitted::Wait { .. })
}

fn is_over(admitted: Admitted) -> bool {
    matches!(admitted, Admitted::Over { .. })
}

/// Spans between two of the calls that had more than the part of a provider's minute that they may: a sixth of it at
/// once, and five in a minute, so that a whole minute never has more than all of it, wherever it begins.
fn refused_by_provider(mut calls: Vec<(Instant, u64)>, a_minute: f64) -> usize {
    // They are noted a little after Redis let them through.
    const LATE: f64 = 0.4;
    calls.sort_unstable();
    let mut refused = 0;
    for (n, (from, _)) in calls.iter().enumerate() {
        let mut sum = 0.0;
        for (at, tokens) in &calls[n..] {
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let tokens = *tokens as f64;
            sum += tokens;
            let minutes = ((*at - *from).as_secs_f64() + LATE) / 60.0;
            refused += usize::from(sum > a_minute * (1.0 + 5.0 * minutes.min(1.0)) / 6.0);
        }
    }
    refused
}

#[tokio::test]
async fn many_workers_together_never_pass_the_limit_and_the_bucket_is_used() {
    let server = Server::start();
    let (a_minute, began) = (300_000, Instant::now());
    let mut workers = JoinSet::new();
    for worker in 0..20 {
        let bus = server.bus();
        workers.spawn(async move {
            let mut gone = Vec::new();
            for n in 0..8 {
                let wish = Wish::new(&format!("{worker}-{n}"), 250 + 50 * n);
                let wish = wish.of(&format!("s{worker}")).per_minute(a_minute);
                wish.wait(&bus).await;
                gone.push((Instant::now(), wish.tokens));
                assert!(wish.settle(&bus, wish.tokens).await);
            }
            gone
        });
    }
    let calls: Vec<_> = workers.join_all().await.concat();
    let all: u64 = calls.iter().map(|(_, tokens)| tokens).sum();
    // A sixth at once, and the others in a minute.
    let least = Duration::from_millis((all - a_minute / 6) * 72_000 / a_minute);
    let took = began.elapsed();
    assert!(took >= least, "{took:?} for {all}");
    assert!(
        took < least * 2 + Duration::from_secs(5),
        "{took:?} for {all}"
    );
    assert_eq!(refused_by_provider(calls, 300_000.0), 0);
}

#[tokio::test]
async fn what_was_reserved_and_not_used_comes_back() {
    let server = Server::start();
    let bus = server.bus();
    let big = Wish::new("a", 1_000).per_minute(6_000);
    assert_eq!(big.admit(&bus).await, Admitted::Go);
    let next = Wish::new("b", 500).per_minute(6_000);
    assert!(waits(next.admit(&bus).await));
    assert!(big.settle(&bus, 10).await);
    assert_eq!(next.admit(&bus).await, Admitted::Go);
}

#[tokio::test]
async fn what_was_used_beyond_the_reserve_is_waited_for() {
    let server = Server::start();
    let bus = server.bus();
    let small = Wish::new("a", 10).per_minute(60_000);
    assert_eq!(small.admit(&bus).await, Admitted::Go);
    small.settle(&bus, 12_000).await;
    let Admitted::Wait { again, .. } = Wish::new("b", 10).per_minute(60_000).admit(&bus).await
    else {
        panic!("it is 2 s behind");
    };
    assert!(again > Duration::from_secs(1), "{again:?}");
}

#[tokio::test]
async fn a_call_that_is_more_than_the_bucket_holds_goes_when_as_much_was_gained() {
    let server = Server::start();
    let bus = server.bus();
    let [one, large, after] = [("a", 1), ("b", 10_800), ("c", 1)]
        .map(|(call, tokens)| Wish::new(call, tokens).per_minute(60_000));
    assert_eq!(one.admit(&bus).await, Admitted::Go);
    // 10,000 are there at first, and 833 come in a second.
    for wish in [large, after] {
        let began = Instant::now();
        wish.wait(&bus).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[tokio::test]
async fn a_call_holds_once_however_often_it_is_asked_for() {
    let server = Server::start();
    let bus = server.bus();
    let wish = Wish::new("a", 60).within(100);
    for _ in 0..3 {
        assert_eq!(wish.admit(&bus).await, Admitted::Go);
    }
    assert!(is_over(Wish::new("b", 41).within(100).admit(&bus).await));
    assert_eq!(
        Wish::new("c", 40).within(100).admit(&bus).await,
        Admitted::Go
    );
}

#[tokio::test]
async fn a_call_that_is_made_again_calls_once_and_is_paid_for_twice() {
    let server = Server::start();
    let bus = server.bus();
    let wish = Wish::new("a", 40).within(100).at_once(1);
    assert_eq!(wish.admit(&bus).await, Admitted::Go);
    // Delivered to another worker: its call takes the place of the first one's, which the provider may have answered.
    let again = bus.admit(&wish.ask("2")).await.unwrap();
    assert_eq!(again, Admitted::Go);
    assert!(!wish.settle(&bus, 10).await, "the first try holds nothing");
    let used = Used {
        tokens: 10,
        cost: 0,
    };
    let settled = bus.settle(&wish.ask("2"), Some(used), NO_PAUSE).await;
    assert!(settled.unwrap());
    let full = Wish::new("b", 51).within(100).at_once(1);
    assert!(is_over(full.admit(&bus).await));
    let fits = Wish::new("c", 50).within(100).at_once(1);
    assert_eq!(fits.admit(&bus).await, Admitted::Go);
}

/// Whichever of its calls the dead one had under way: the living one may ask for fewer, since some are paid for.
#[tokio::test]
async fn a_turn_that_is_made_again_lets_go_of_all_that_the_dead_one_held() {
    let server = Server::start();
    let bus = server.bus();
    let call = |number| Wish::new("a", 20).number(number).within(100).at_once(2);
    for number in [0, 1] {
        assert_eq!(call(number).admit(&bus).await, Admitted::Go);
    }
    call(0).settle(&bus, 20).await;
    assert_eq!(call(2).admit(&bus).await, Admitted::Go);
    let other = Wish::new("b", 20).within(100).at_once(2);
    assert!(waits(other.admit(&bus).await));
    let again = bus.admit(&call(0).ask("2")).await.unwrap();
    assert_eq!(again, Admitted::Go);
    // One place is free, and what the dead one's calls may have used is spent: 60 and this one's 20.
    let full = Wish::new("c", 21).within(100).at_once(2);
    assert!(is_over(full.admit(&bus).await));
    assert_eq!(other.admit(&bus).await, Admitted::Go);
    let held: usize = redis::cmd("HLEN")
        .arg("sf:{0}:admission:held")
        .query(&mut server.raw())
        .unwrap();
    assert_eq!(held, 4, "two calls, each in its turn");
}

#[tokio::test]
async fn who_comes_back_to_a_turn_that_it_lost_takes_nothing_from_the_one_that_has_it() {
    let server = Server::start();
    let bus = server.bus();
    let call = |number| Wish::new("a", 20).number(number).within(100).at_once(1);
    let admit = async |number, attempt| bus.admit(&call(number).ask(attempt)).await.unwrap();
    assert_eq!(admit(1, "7-0-2-b").await, Admitted::Go);
    for number in [0, 1, 5] {
        assert_eq!(admit(number, "7-0-1-a").await, Admitted::Stale);
    }
    assert_eq!(admit(1, "6-9-3-a").await, Admitted::Stale);
    let used = Used { tokens: 5, cost: 0 };
    let settled = bus
        .settle(&call(1).ask("7-0-2-b"), Some(used), NO_PAUSE)
        .await;
    assert!(settled.unwrap());
    assert!(is_over(Wish::new("b", 96).within(100).admit(&bus).await));
    assert_eq!(
        Wish::new("c", 95).within(100).admit(&bus).await,
        Admitted::Go
    );
}

#[tokio::test]
async fn who_comes_back_to_a_turn_does_not_take_the_place_of_who_waits_with_it() {
    let server = Server::start();
    let bus = server.bus();
    assert_eq!(Wish::new("c", 1).at_once(1).admit(&bus).await, Admitted::Go);
    let call = Wish::new("a", 1).at_once(1);
    let place = async |wish: &Wish, attempt| match bus.admit(&wish.ask(attempt)).await.unwrap() {
        Admitted::Wait { place, .. } => Ok(place),
        other => Err(other),
    };
    assert_eq!(place(&call, "7-0-2-b").await, Ok(0));
    assert_eq!(place(&Wish::new("b", 1).at_once(1), "8-0-1-a").await, Ok(1));
    assert_eq!(place(&call, "7-0-1-a").await, Err(Admitted::Stale));
    let settled = bus.settle(&call.ask("7-0-1-a"), None, NO_PAUSE).await;
    assert!(!settled.unwrap());
    assert_eq!(place(&call, "7-0-2-b").await, Ok(0));
}

/// Where the reply was lost, and Redis was away for longer than the call may take.
#[tokio::test]
async fn a_call_whose_time_is_over_before_it_was_told_to_go_holds_once() {
    let server = Server::start();
    let bus = server.bus();
    let mut call = Wish::new("a", 60).within(100).at_once(1);
    call.life = Duration::from_millis(1);
    for _ in 0..20 {
        assert_eq!(call.admit(&bus).await, Admitted::Go);
    }
    assert!(call.settle(&bus, 5).await);
    assert_eq!(
        Wish::new("b", 95).within(100).at_once(1).admit(&bus).await,
        Admitted::Go
    );
}

/// Its count begins anew, in another entry.
#[tokio::test]
async fn an_event_that_is_sent_again_waits_for_no_call_of_its_dead_workers() {
    let server = Server::start();
    let bus = server.bus();
    let call = Wish::new("a", 1).at_once(1);
    for attempt in ["7-0-3-a", "7-1-1-b", "8-0-1-c"] {
        assert_eq!(bus.admit(&call.ask(attempt)).await.unwrap(), Admitted::Go);
    }
}

#[tokio::test]
async fn another_calls_in_a_dead_workers_place_and_what_it_may_have_used_counts() {
    let server = Server::start();
    let bus = server.bus();
    let mut dead = Wish::new("a", 60).within(100).at_once(1);
    dead.life = Duration::from_millis(200);
    assert_eq!(dead.admit(&bus).await, Admitted::Go);
    let next = Wish::new("b", 40).within(100).at_once(1);
    assert!(waits(next.admit(&bus).await));
    let free = async { while next.admit(&bus).await != Admitted::Go {} };
    let free = tokio::time::timeout(Duration::from_secs(10), free).await;
    free.expect("its time passes");
    assert!(!dead.settle(&bus, 0).await);
    next.settle(&bus, 40).await;
    assert!(is_over(Wish::new("c", 1).within(100).admit(&bus).await));
}

#[tokio::test]
async fn a_budget_is_never_passed_by_many_at_once() {
    let server = Server::start();
    let mut workers = JoinSet::new();
    for n in 0..100 {
        let bus = server.bus();
        workers.spawn(async move {
            let wish = Wish::new(&n.to_string(), 7).within(100);
            let admitted = wish.admit(&bus).await;
            if admitted == Admitted::Go {
                wish.settle(&bus, 7).await;
            }
            admitted
        });
    }
    let went = workers.join_all().await;
    let went = went.iter().filter(|one| **one == Admitted::Go).count();
    assert_eq!(went, 14);
    let bus = server.bus();
    assert!(is_over(Wish::new("x", 3).within(100).admit(&bus).await));
    // Others have their own.
    let other = Wish::new("y", 3).of("tower").within(100);
    assert_eq!(other.admit(&bus).await, Admitted::Go);
}

#[tokio::test]
async fn no_more_than_so_many_call_at_once() {
    let server = Server::start();
    let bus = server.bus();
    let [a, b, c] = ["a", "b", "c"].map(|call| Wish::new(call, 1).at_once(2));
    assert_eq!(a.admit(&bus).await, Admitted::Go);
    assert_eq!(b.admit(&bus).await, Admitted::Go);
    assert!(waits(c.admit(&bus).await));
    a.settle(&bus, 1).await;
    assert_eq!(c.admit(&bus).await, Admitted::Go);
}

#[tokio::test]
async fn a_story_that_asks_for_much_is_not_served_before_one_that_asks_for_little() {
    let server = Server::start();
    let bus = server.bus();
    let first = Wish::new("first", 1).of("busy").at_once(1);
    assert_eq!(first.admit(&bus).await, Admitted::Go);
    let many: Vec<_> = (0..5)
        .map(|n| Wish::new(&format!("busy-{n}"), 100).of("busy").at_once(1))
        .collect();
    for wish in &many {
        assert!(waits(wish.admit(&bus).await));
    }
    let quiet = Wish::new("quiet", 100).of("quiet").at_once(1);
    let Admitted::Wait { place, .. } = quiet.admit(&bus).await else {
        panic!("one calls");
    };
    assert!(place <= 1, "{place}");
}

#[tokio::test]
async fn who_waits_is_not_overtaken_and_who_is_gone_is_not_waited_for() {
    let server = Server::start();
    let bus = server.bus();
    let fill = Wish::new("fill", 1_000).of("a").per_minute(6_000);
    assert_eq!(fill.admit(&bus).await, Admitted::Go);
    let large = Wish::new("large", 900).of("b").per_minute(6_000);
    let small = Wish::new("small", 1).of("c").per_minute(6_000);
    assert!(waits(large.admit(&bus).await));
    sleep(Duration::from_millis(100)).await;
    // There is enough for it alone.
    assert!(waits(small.admit(&bus).await));
    // The large one never asks again.
    let began = Instant::now();
    small.wait(&bus).await;
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn nobody_calls_a_model_that_asked_for_a_pause() {
    let server = Server::start();
    let bus = server.bus();
    let told = Wish::new("a", 1);
    assert_eq!(told.admit(&bus).await, Admitted::Go);
    let pause = Duration::from_millis(700);
    bus.settle(&told.ask("1"), None, pause).await.unwrap();
    let began = Instant::now();
    let next = Wish::new("b", 1);
    assert!(waits(next.admit(&bus).await));
    next.wait(&bus).await;
    assert!(
        began.elapsed() >= Duration::from_millis(650),
        "{:?}",
        began.elapsed()
    );
}
