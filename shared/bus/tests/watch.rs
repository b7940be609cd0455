//! What a reader of a story sees, against a real Redis: its drafts, its cuts and its restarts.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Commit, Delivery, Draft, DraftChunk, Drafted, Seen, Watch};
use redis::Commands;
use server::{
    Server, action, answer, answered, castle, commands, create, draft, pass, place, story, user,
};
use story::{Agent, Policies, Seq};

const NARRATOR: Agent = Agent::Narrator;

async fn next(watch: &mut Watch) -> Seen {
    let seen = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    seen.expect("something to see").unwrap()
}

/// A delivered action, and the draft of its answer.
async fn begun(bus: &Bus, id: &str) -> (Delivery, Draft) {
    bus.publish(&action("castle", id)).await.unwrap();
    let mut deliveries = bus.reader(NARRATOR, "w1").next(1).await.unwrap();
    let delivery = deliveries.remove(0);
    let draft = draft(&delivery, answer(&delivery).id);
    (delivery, draft)
}

async fn write(bus: &Bus, draft: &Draft, attempt: u32, i: u32, text: &str) -> Drafted {
    let chunk = DraftChunk {
        draft,
        attempt,
        i,
        n: 1,
        text,
    };
    bus.draft(&chunk).await.unwrap()
}

async fn commit(bus: &Bus, delivery: Delivery) {
    let effects = Commit {
        responses: vec![answer(&delivery).id],
        ..answered(&delivery)
    };
    bus.commit(&delivery, &effects).await.unwrap();
}

fn words(seen: &Seen) -> (u32, &str) {
    match seen {
        Seen::Delta { i, text, .. } => (*i, text),
        other => panic!("{other:?} is not a delta"),
    }
}

#[tokio::test]
async fn an_answer_is_seen_as_it_grows_and_then_whole() {
    let (_server, bus) = castle(&[]).await;
    let (delivery, draft) = begun(&bus, "a").await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    write(&bus, &draft, 1, 0, "answer ").await;
    let first = next(&mut watch).await;
    assert!(
        matches!(&first, Seen::Snapshot { text, .. } | Seen::Delta { text, .. } if text == "answer ")
    );
    write(&bus, &draft, 1, 1, "to ").await;
    assert_eq!(words(&next(&mut watch).await), (1, "to "));
    commit(&bus, delivery).await;
    assert_eq!(place(&next(&mut watch).await), (2, "re-a"));
}

#[tokio::test]
async fn a_watch_tells_each_time_that_it_has_caught_up() {
    let (_server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    let first = watch.next_or_caught_up().await.unwrap().unwrap();
    assert_eq!(place(&first), (1, "a"));
    for _ in 0..2 {
        assert!(!watch.is_caught_up());
        assert_eq!(watch.next_or_caught_up().await.unwrap(), None);
        assert!(watch.is_caught_up());
        // Nothing new is told of, until it is asked to look.
        let more = tokio::time::timeout(Duration::from_millis(50), watch.next_or_caught_up());
        assert!(more.await.is_err());
        watch.read_again();
    }
}

#[tokio::test]
async fn who_asks_all_the_time_keeps_nobody_from_seeing_anything_and_is_answered() {
    let (_server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    let asked = async {
        for (seq, (id, then)) in (1..).zip([("a", "b"), ("b", "c"), ("c", "d")]) {
            let reading = watch.read_again();
            let mut seen = None;
            while seen.is_none() || watch.given() < reading {
                tokio::select! {
                    next = watch.next_or_caught_up() => seen = next.unwrap().or(seen),
                    () = tokio::task::yield_now() => {}
                }
                watch.read_again();
            }
            assert_eq!(place(&seen.unwrap()), (seq, id));
            bus.publish(&action("castle", then)).await.unwrap();
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(20), asked).await;
    asked.expect("something to see");
}

#[tokio::test]
async fn a_reader_that_returns_gets_only_what_it_missed() {
    let (_server, bus) = castle(&[]).await;
    let (_delivery, draft) = begun(&bus, "a").await;
    for (i, text) in (0..).zip(["one ", "two "]) {
        write(&bus, &draft, 1, i, text).await;
    }
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    next(&mut watch).await;
    let snapshot = next(&mut watch).await;
    assert!(matches!(&snapshot, Seen::Snapshot { upto: 2, text, .. } if text == "one two "));
    let cursor = watch.cursor().to_string().parse().unwrap();
    drop(watch);
    write(&bus, &draft, 1, 2, "three").await;
    let mut watch = bus.watch(&story("castle"), Some(cursor)).await.unwrap();
    assert_eq!(words(&next(&mut watch).await), (2, "three"));
}

#[tokio::test]
async fn a_chunk_sent_twice_is_read_once_and_an_old_attempt_not_at_all() {
    let (_server, bus) = castle(&[]).await;
    let (delivery, draft) = begun(&bus, "a").await;
    for _ in 0..2 {
        assert_eq!(write(&bus, &draft, 1, 0, "one").await, Drafted::Ok);
    }
    let anew = bus.reset_draft(&draft).await.unwrap().unwrap();
    assert_eq!(write(&bus, &draft, 1, 1, "late").await, Drafted::Stale);
    write(&bus, &draft, anew, 0, "anew").await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    next(&mut watch).await;
    let seen = next(&mut watch).await;
    assert!(
        matches!(&seen, Seen::Snapshot { attempt, upto: 1, text, .. } if *attempt == anew && text == "anew")
    );
    commit(&bus, delivery).await;
    assert_eq!(
        write(&bus, &draft, anew, 1, "a zombie").await,
        Drafted::Stale
    );
    assert_eq!(bus.reset_draft(&draft).await.unwrap(), None);
}

/// What a replica never heard of is no attempt of its own: readers know the number.
#[tokio::test]
async fn an_attempt_has_a_number_that_no_server_gave_before() {
    let (server, bus) = castle(&[]).await;
    let (delivery, draft) = begun(&bus, "a").await;
    let first = bus
        .context(&delivery, (1, None), 0)
        .await
        .unwrap()
        .first_attempt;
    let now = u32::try_from(jiff::Timestamp::now().as_second()).unwrap();
    assert!(now.abs_diff(first) < 60, "{first}");
    write(&bus, &draft, first, 0, "one").await;
    let second = bus.reset_draft(&draft).await.unwrap();
    assert!(second > Some(first), "{second:?}");
    let _: u64 = server.raw().del("sf:{0}:drafts:castle").unwrap();
    let unheard = bus.reset_draft(&draft).await.unwrap();
    assert!(unheard >= Some(now), "{unheard:?}");
}

#[tokio::test]
async fn a_cursor_of_another_history_gives_a_gap_and_a_fresh_start() {
    let (_server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    next(&mut watch).await;
    let mut other = watch.cursor().clone();
    other.tag = story::Tag::START;
    let mut older = watch.cursor().clone();
    older.epoch = "elsewhere".into();
    let mut ahead = watch.cursor().clone();
    ahead.seq = Seq(7);
    for cursor in [other, older, ahead] {
        let mut watch = bus.watch(&story("castle"), Some(cursor)).await.unwrap();
        assert_eq!(next(&mut watch).await, Seen::Gap);
        assert_eq!(place(&next(&mut watch).await), (1, "a"));
    }
}

#[tokio::test]
async fn a_lost_connection_costs_no_event() {
    let (server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    next(&mut watch).await;
    for (seq, id) in (2..).zip(["b", "c", "d"]) {
        for kind in ["pubsub", "normal"] {
            let mut kill = redis::cmd("CLIENT");
            kill.arg(&["KILL", "TYPE", kind, "SKIPME", "yes"]);
            kill.exec(&mut server.raw()).unwrap();
        }
        bus.publish(&action("castle", id)).await.unwrap();
        assert_eq!(place(&next(&mut watch).await), (seq, id));
    }
}

#[tokio::test]
async fn a_live_message_larger_than_any_event_is_not_even_read() {
    let (server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    let mut huge = action("castle", "huge");
    huge.extra.insert("more".into(), "x".repeat(200_000).into());
    let message = format!(r#"{{"t":"event","seq":2,"event":{}}}"#, huge.encode());
    let mut publish = redis::cmd("SPUBLISH");
    publish.arg("sf:{0}:live:castle").arg(message);
    let more = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(more.is_err(), "everything is read: {more:?}");
    let heard: u64 = publish.query(&mut server.raw()).unwrap();
    assert_eq!(heard, 1);
    bus.publish(&action("castle", "b")).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (2, "b"));
}

#[tokio::test]
async fn a_restart_of_redis_costs_no_event() {
    let mut server = Server::durable();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    server.kill();
    let away = tokio::time::timeout(Duration::from_millis(300), watch.next()).await;
    assert!(away.is_err(), "a reader waits for Redis: {away:?}");
    server.restart();
    bus.publish(&action("castle", "b")).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (2, "b"));
}

#[tokio::test]
async fn a_redis_that_refuses_for_a_while_costs_no_event() {
    let (server, bus) = castle(&["a"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (1, "a"));
    let busy = server.busy();
    watch.read_again();
    let refused = async {
        loop {
            let more = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
            assert!(more.is_err(), "a reader waits until it is over: {more:?}");
            if watch.is_lost() {
                return;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await;
    refused.expect("it was refused");
    busy.end();
    bus.publish(&action("castle", "b")).await.unwrap();
    assert_eq!(place(&next(&mut watch).await), (2, "b"));
    assert!(!watch.is_lost());
}

#[tokio::test]
async fn an_event_and_a_chunk_whose_messages_were_denied_are_seen_after_half_a_minute() {
    let (server, bus) = castle(&["a"]).await;
    let mute = user(&server, &["+@all", "resetchannels"]);
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(all(&mut watch, SHORT).await, [Some(1)]);
    let mut deliveries = mute.reader(NARRATOR, "w1").next(1).await.unwrap();
    let draft = draft(&deliveries[0], answer(&deliveries[0]).id);
    write(&mute, &draft, 1, 0, "answer ").await;
    pass(Duration::from_secs(30)).await;
    let seen = next(&mut watch).await;
    assert!(matches!(&seen, Seen::Snapshot { text, .. } if text == "answer "));
    assert_eq!(all(&mut watch, SHORT).await, []);
    commit(&mute, deliveries.remove(0)).await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(place(&next(&mut watch).await), (2, "re-a"));
}

/// Everything that is seen until it is quiet for this long, without its text.
async fn all(watch: &mut Watch, quiet: Duration) -> Vec<Option<u64>> {
    let mut all = Vec::new();
    while let Ok(seen) = tokio::time::timeout(quiet, watch.next()).await {
        all.push(match seen.unwrap() {
            Seen::Event(entry) => Some(entry.seq.0),
            Seen::Gap => None,
            other => panic!("{other:?} is not in the log"),
        });
        assert!(all.len() < 100, "it never comes to rest: {all:?}");
    }
    all
}

fn destroy(server: &Server, seq: u64) {
    let id = format!("{seq}-0");
    let gone: u64 = server.raw().xdel("sf:{0}:log:castle", &[id]).unwrap();
    assert_eq!(gone, 1);
}

const SHORT: Duration = Duration::from_millis(300);

/// What is seen at once, and after the time when a quiet story is read again.
async fn all_and_later(watch: &mut Watch) -> Vec<Option<u64>> {
    let mut seen = all(watch, SHORT).await;
    for _ in 0..2 {
        pass(Duration::from_secs(30)).await;
        seen.extend(all(watch, SHORT).await);
    }
    seen
}

#[tokio::test]
async fn a_hole_in_the_log_gives_one_gap_and_all_that_is_left() {
    let (server, bus) = castle(&["a", "b", "c", "d"]).await;
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    next(&mut watch).await;
    let cursor = watch.cursor().clone();
    destroy(&server, 2);
    for from in [None, Some(cursor)] {
        let before = commands(&server);
        let mut watch = bus.watch(&story("castle"), from).await.unwrap();
        let seen = all_and_later(&mut watch).await;
        assert_eq!(seen, [None, Some(1), Some(3), Some(4)]);
        let commands = commands(&server) - before;
        assert!(commands < 60, "{commands} commands");
        let cursor = watch.cursor().clone();
        let mut later = bus.watch(&story("castle"), Some(cursor)).await.unwrap();
        assert_eq!(all(&mut later, Duration::from_millis(300)).await, []);
    }
}

#[tokio::test]
async fn a_hole_wider_than_a_page_hides_nothing_behind_it() {
    let ids: Vec<String> = (1..=450).map(|i| format!("a{i}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (server, bus) = castle(&ids).await;
    (5..450).for_each(|seq| destroy(&server, seq));
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    let seen = all(&mut watch, Duration::from_secs(1)).await;
    assert_eq!(seen, [None, Some(1), Some(2), Some(3), Some(4), Some(450)]);
}

#[tokio::test]
async fn a_count_that_is_ahead_of_the_log_keeps_no_reader_busy() {
    let (server, bus) = castle(&["a", "b"]).await;
    let _: u64 = server.raw().hincr("sf:{0}:ctx:castle", "seq", 1).unwrap();
    let before = commands(&server);
    let mut watch = bus.watch(&story("castle"), None).await.unwrap();
    assert_eq!(all_and_later(&mut watch).await, [Some(1), Some(2)]);
    let commands = commands(&server) - before;
    assert!(commands < 60, "{commands} commands");
    bus.publish(&action("castle", "c")).await.unwrap();
    let seen = all(&mut watch, Duration::from_secs(1)).await;
    assert_eq!(seen, [None, Some(1), Some(2), Some(4)]);
}
