//! What waits for a reader: order, room, turns, ends.

use bus::Seen;
use futures::FutureExt;
use story::{Cursor, Seq, Tag};
use tokio_util::task::TaskTracker;

use super::*;

fn item(seq: u64) -> Arc<Item> {
    let cursor = Cursor {
        epoch: "e".to_owned(),
        seq: Seq(seq),
        tag: Tag::START,
        draft: None,
    };
    let story = Arc::new("castle".parse().unwrap());
    Arc::new(Item::seen(story, Arc::new(cursor), Seen::Gap))
}

fn give(queue: &Queue, seq: u64) -> Given {
    queue.give(Place::live(seq as u32), &item(seq))
}

#[test]
fn it_has_room_for_so_many_and_gives_them_in_order() {
    let queue = Queue::new(3);
    let given: Vec<_> = (1..=4).map(|seq| give(&queue, seq)).collect();
    assert_eq!(given, [Given::Yes, Given::Yes, Given::Yes, Given::Full]);
    let taken = std::iter::from_fn(|| queue.try_next());
    assert_eq!(
        taken.map(|next| next.number()).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(give(&queue, 5), Given::Yes);
}

#[tokio::test]
async fn all_who_wait_for_room_come_to_it() {
    let queue = Arc::new(Queue::new(2));
    assert_eq!((give(&queue, 0), give(&queue, 0)), (Given::Yes, Given::Yes));
    let tracker = TaskTracker::new();
    let givers = (1..=20).map(|seq| {
        let queue = Arc::clone(&queue);
        tracker.spawn(async move {
            while give(&queue, seq) == Given::Full {
                assert!(queue.ready().await);
            }
        })
    });
    let givers: Vec<_> = givers.collect();
    let mut taken = Vec::new();
    while taken.len() < 22 {
        taken.push(queue.next().await.unwrap().number());
    }
    taken.sort_unstable();
    assert_eq!(taken, [0].into_iter().chain(0..=20).collect::<Vec<_>>());
    for giver in givers {
        giver.await.unwrap();
    }
}

#[tokio::test]
async fn room_is_passed_on_by_whoever_does_not_use_it() {
    let queue = Queue::new(1);
    assert_eq!(give(&queue, 1), Given::Yes);
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(queue.ready())).collect();
    for wait in &mut waits {
        assert_eq!(wait.now_or_never(), None);
    }
    assert!(queue.try_next().is_some());
    for wait in waits {
        assert_eq!(wait.now_or_never(), Some(true));
    }
}

#[tokio::test]
async fn who_waits_for_room_is_told_that_nobody_takes_any_more() {
    let queue = Queue::new(1);
    assert_eq!(give(&queue, 1), Given::Yes);
    let mut ready = Box::pin(queue.ready());
    assert_eq!((&mut ready).now_or_never(), None);
    queue.leave();
    assert_eq!(ready.now_or_never(), Some(false));
    assert_eq!(give(&queue, 2), Given::Gone);
}

#[tokio::test]
async fn who_is_too_slow_hears_it_whichever_way_they_ask() {
    let queue = Arc::new(Queue::new(1));
    let asking = Arc::clone(&queue);
    // One task asks in two ways: it is woken for both.
    let both = TaskTracker::new()
        .spawn(async move { tokio::join!(asking.next().map(|next| next.err()), asking.ended()) });
    tokio::task::yield_now().await;
    queue.over(7);
    queue.slow();
    assert_eq!(both.await.unwrap(), (Some(Why::Slow), ()));
}

#[tokio::test]
async fn a_story_that_is_over_ends_after_what_there_is_and_the_others_go_on() {
    let queue = Queue::new(3);
    assert_eq!(give(&queue, 1), Given::Yes);
    queue.over(1);
    assert_eq!(give(&queue, 2), Given::Yes);
    assert_eq!(queue.next().await.unwrap().number(), 1);
    assert!(queue.try_next().is_none());
    assert_eq!(queue.next().await.err(), Some(Why::Story(1)));
    assert_eq!(queue.next().await.unwrap().number(), 2);
    assert!(queue.next().now_or_never().is_none());
}

#[tokio::test]
async fn one_at_a_time_reads_the_log_for_it_and_only_where_half_of_it_is_free() {
    let queue = Arc::new(Queue::new(4));
    (0..4).for_each(|seq| assert_eq!(give(&queue, seq), Given::Yes));
    let mut turns: Vec<_> = (0..2).map(|_| Box::pin(queue.turn())).collect();
    // Behind both in the row of those who wait for room, and in need of no turn.
    let mut is_ready = Box::pin(queue.ready());
    assert!(queue.try_next().is_some());
    assert!(turns.iter_mut().all(|turn| turn.now_or_never().is_none()));
    assert_eq!((&mut is_ready).now_or_never(), None);
    assert!(queue.try_next().is_some());
    let first = turns[0].as_mut().now_or_never().flatten();
    assert!(first.is_some() && turns[1].as_mut().now_or_never().is_none());
    assert_eq!(is_ready.now_or_never(), Some(true));
    drop(first);
    assert!(turns[1].as_mut().now_or_never().flatten().is_some());
}

#[tokio::test]
async fn who_goes_away_before_their_turn_takes_nobody_elses() {
    let queue = Arc::new(Queue::new(4));
    let first = queue.turn().await;
    let (mut second, mut third) = (Box::pin(queue.turn()), Box::pin(queue.turn()));
    assert!((&mut second).now_or_never().is_none());
    assert!((&mut third).now_or_never().is_none());
    (0..4).for_each(|seq| assert_eq!(give(&queue, seq), Given::Yes));
    drop(first);
    assert!((&mut second).now_or_never().is_none());
    drop(second);
    while queue.try_next().is_some() {}
    assert!(third.now_or_never().flatten().is_some());
}
