//! The places of those who wait: who keeps one, and for how long others may come before it.

use bus::{Admitted, Used};

use crate::server::Server;
use crate::waits;
use crate::wish::{NO_PAUSE, Wish};

fn wish(call: &str, story: &str) -> Wish {
    Wish::new(call, 100).of(story).at_once(1)
}

/// With one call at a time, and a story that comes anew before each: how many of those went before the last of `first`.
async fn overtaken(first: &[(&str, &str)]) -> usize {
    let server = Server::start();
    let bus = server.bus();
    let mut waiting: Vec<Wish> = Vec::new();
    let mut under_way = wish("under way", "tower");
    assert_eq!(under_way.admit(&bus).await, Admitted::Go);
    for (call, story) in first {
        let wish = wish(call, story);
        assert!(waits(wish.admit(&bus).await));
        waiting.push(wish);
    }
    let last = waiting[waiting.len() - 1].turn.clone();
    let mut newer = 0;
    for round in 0..20 {
        let new = wish(&format!("new {round}"), &format!("new-{round}"));
        assert!(waits(new.admit(&bus).await));
        waiting.push(new);
        under_way.settle(&bus, 100).await;
        let mut gone = None;
        for (at, wish) in waiting.iter().enumerate() {
            if wish.admit(&bus).await == Admitted::Go {
                gone = Some(at);
                break;
            }
        }
        under_way = waiting.remove(gone.expect("nobody calls"));
        if under_way.turn == last {
            return newer;
        }
        newer += usize::from(under_way.turn.starts_with("new"));
    }
    panic!("{newer} that came later went before {last}");
}

#[tokio::test]
async fn a_storys_second_call_goes_before_the_third_story_that_comes_after_it() {
    // The first one is under way still.
    assert!(overtaken(&[("second", "tower")]).await < 3);
}

#[tokio::test]
async fn as_many_stories_as_share_a_model_may_go_before_a_storys_second_call() {
    let waiting = [("a1", "a"), ("b1", "b"), ("c1", "c"), ("a2", "a")];
    let newer = overtaken(&waiting).await;
    assert!((1..8).contains(&newer), "{newer}");
}

#[tokio::test]
async fn the_end_of_a_try_leaves_its_place_to_the_one_that_waits_there_now() {
    let server = Server::start();
    let bus = server.bus();
    let under_way = wish("a", "a");
    assert_eq!(under_way.admit(&bus).await, Admitted::Go);
    let twice = wish("b", "b");
    assert!(waits(twice.admit(&bus).await));
    assert!(waits(bus.admit(&twice.ask("2")).await.unwrap()));
    let behind = wish("c", "c");
    let place = |admitted| match admitted {
        Admitted::Wait { place, .. } => place,
        other => panic!("{other:?}"),
    };
    let settle = async |by: &str| {
        let ask = twice.ask(by);
        let ended = bus.settle(&ask, Some(Used::default()), NO_PAUSE).await;
        assert!(!ended.unwrap(), "it held nothing");
    };
    assert_eq!(place(behind.admit(&bus).await), 1);
    settle("1").await;
    assert_eq!(place(behind.admit(&bus).await), 1);
    settle("2").await;
    assert_eq!(place(behind.admit(&bus).await), 0);
}
