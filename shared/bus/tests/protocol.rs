//! One test for each promise of the lane protocol, against a real Redis.

mod server;

use bus::{Commit, Committed, Emit, Error, Published};
use redis::Commands;
use server::{
    Server, action, answer, answered, castle, create, everything, given_up, ids, one, story,
};
use story::{Agent, InputPolicy, OutputPolicy, Policies, Route, Seq, Step};

const NARRATOR: Agent = Agent::Narrator;

/// The ids in a story's log, in order.
fn log(server: &Server, id: &str) -> Vec<String> {
    type Entry = (String, Vec<(String, Vec<u8>)>);
    let key = format!("sf:{{0}}:log:{id}");
    let entries: Vec<Entry> = server.raw().xrange_all(key).and_then(from).expect("a log");
    let ids = entries.iter().zip(1..).map(|((place, fields), seq)| {
        assert_eq!(*place, format!("{seq}-0"), "the log has a hole");
        let event = story::Event::decode(&fields[0].1).expect("an event");
        event.id.to_string()
    });
    ids.collect()
}

fn from<T: redis::FromRedisValue>(value: redis::Value) -> redis::RedisResult<T> {
    redis::from_redis_value(value).map_err(Into::into)
}

#[tokio::test]
async fn one_story_is_answered_in_order() {
    let (server, bus) = castle(&["a", "b", "c"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    for id in ["a", "b", "c"] {
        let delivery = one(reader.next(10).await.unwrap());
        assert_eq!(ids(std::slice::from_ref(&delivery)), [id]);
        assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 1);
        let effects = answered(&delivery);
        bus.commit(&delivery, &effects).await.unwrap();
    }
    assert_eq!(
        log(&server, "castle"),
        ["a", "b", "c", "re-a", "re-b", "re-c"]
    );
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
}

#[tokio::test]
async fn other_stories_run_in_parallel() {
    let server = Server::start();
    let bus = server.bus();
    for id in ["castle", "forest"] {
        create(&bus, id, Policies::default()).await;
        for event in ["a", "b"] {
            bus.publish(&action(id, event)).await.unwrap();
        }
    }
    let deliveries = bus.reader(NARRATOR, "w1").next(10).await.unwrap();
    let stories = deliveries.iter().map(|d| &d.work.as_ref().unwrap().story);
    assert!(stories.eq(&[story("castle"), story("forest")]));
}

#[tokio::test]
async fn a_reader_takes_no_more_than_it_has_room_for() {
    let server = Server::start();
    let bus = server.bus();
    for id in ["castle", "forest", "sea"] {
        create(&bus, id, Policies::default()).await;
        bus.publish(&action(id, "a")).await.unwrap();
    }
    let mut reader = bus.reader(NARRATOR, "w1");
    assert_eq!(reader.next(2).await.unwrap().len(), 2);
    assert!(reader.next(0).await.unwrap().is_empty());
    assert_eq!(reader.next(2).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_event_published_twice_is_accepted_once() {
    let (server, bus) = castle(&[]).await;
    let event = action("castle", "a");
    assert_eq!(
        bus.publish(&event).await.unwrap(),
        Published::Logged(Seq(1))
    );
    let before = everything(&mut server.raw());
    assert_eq!(bus.publish(&event).await.unwrap(), Published::Duplicate);
    assert_eq!(everything(&mut server.raw()), before);
}

#[tokio::test]
async fn a_commit_sent_again_is_gone_and_writes_nothing() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = one(bus.reader(NARRATOR, "w1").next(1).await.unwrap());
    let again = delivery.clone();
    let effects = answered(&again);
    bus.commit(&again, &effects).await.unwrap();
    let before = everything(&mut server.raw());
    assert_eq!(bus.commit(&again, &effects).await.unwrap(), Committed::Gone);
    assert_eq!(
        bus.bury(&again, &given_up(None)).await.unwrap(),
        Committed::Gone
    );
    assert_eq!(everything(&mut server.raw()), before);
}

#[tokio::test]
async fn a_malformed_entry_is_buried_and_stops_nobody() {
    let (server, bus) = castle(&[]).await;
    let work = "sf:{0}:work:narrator";
    let _: String = server.raw().xadd(work, "*", &[("junk", "\u{7f}")]).unwrap();
    bus.publish(&action("castle", "a")).await.unwrap();
    let mut deliveries = bus.reader(NARRATOR, "w1").next(10).await.unwrap();
    assert_eq!(deliveries.len(), 2);
    let good = deliveries.pop().unwrap();
    let bad = deliveries.pop().unwrap();
    assert!(bad.work.is_err());
    assert_eq!(
        bus.bury(&bad, &given_up(None)).await.unwrap(),
        Committed::Done(Vec::new())
    );
    let effects = answered(&good);
    assert_eq!(
        bus.commit(&good, &effects).await.unwrap(),
        Committed::Done(vec![Seq(2)])
    );
    let dead: Vec<(String, Vec<String>)> = server
        .raw()
        .xrange_all("sf:{0}:dead:narrator")
        .and_then(from)
        .unwrap();
    assert_eq!(
        dead[0].1[..6],
        [
            "junk",
            "\u{7f}",
            "reason",
            "it always fails",
            "class",
            "crash"
        ]
    );
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
}

#[tokio::test]
async fn a_buried_event_tells_its_readers_and_lets_the_next_one_go() {
    let (server, bus) = castle(&["a", "b"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let delivery = one(reader.next(10).await.unwrap());
    let burial = given_up(Some(answer(&delivery)));
    let done = bus.bury(&delivery, &burial).await.unwrap();
    assert_eq!(done, Committed::Done(vec![Seq(3)]));
    assert_eq!(log(&server, "castle"), ["a", "b", "re-a"]);
    assert_eq!(ids(&reader.next(10).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn a_held_action_is_seen_only_when_the_moderator_lets_it_pass() {
    let server = Server::start();
    let bus = server.bus();
    let hold = Policies {
        input: InputPolicy::Hold,
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    create(&bus, "castle", hold).await;
    assert_eq!(
        bus.publish(&action("castle", "a")).await.unwrap(),
        Published::Held
    );
    assert_eq!(
        bus.publish(&action("castle", "a")).await.unwrap(),
        Published::Duplicate
    );
    assert!(log(&server, "castle").is_empty());

    let delivery = one(bus.reader(Agent::Moderator, "m1").next(10).await.unwrap());
    let work = delivery.work.clone().unwrap();
    assert!(work.held);
    let passed = Commit {
        emit: vec![Emit {
            route: Route::Logged(story::passed(&work.event)),
            event: work.event,
        }],
        ..Commit::default()
    };
    assert_eq!(
        bus.commit(&delivery, &passed).await.unwrap(),
        Committed::Done(vec![Seq(1)])
    );

    let delivery = one(bus.reader(NARRATOR, "w1").next(10).await.unwrap());
    assert!(!delivery.work.as_ref().unwrap().held);
    let mut held = answered(&delivery);
    held.emit[0].route = Route::Held;
    assert_eq!(
        bus.commit(&delivery, &held).await.unwrap(),
        Committed::Done(Vec::new())
    );
    assert_eq!(log(&server, "castle"), ["a"]);
    let judged = one(bus.reader(Agent::Moderator, "m1").next(10).await.unwrap());
    assert!(judged.work.unwrap().held);
}

#[tokio::test]
async fn a_full_lane_refuses_until_one_is_answered() {
    let (server, bus) = castle(&[]).await;
    // One in flight and 1,000 behind it.
    for i in 0..=1_000 {
        bus.publish(&action("castle", &format!("e{i}")))
            .await
            .unwrap();
    }
    let before = everything(&mut server.raw());
    let refused = bus.publish(&action("castle", "late")).await;
    assert!(matches!(refused, Err(Error::LaneFull(_))), "{refused:?}");
    assert_eq!(everything(&mut server.raw()), before);

    let delivery = one(bus.reader(NARRATOR, "w1").next(10).await.unwrap());
    let effects = answered(&delivery);
    bus.commit(&delivery, &effects).await.unwrap();
    let published = bus.publish(&action("castle", "late")).await.unwrap();
    assert_eq!(published, Published::Logged(Seq(1_003)));
    let refused = bus.publish(&action("castle", "later")).await;
    assert!(matches!(refused, Err(Error::LaneFull(_))), "{refused:?}");
}

#[tokio::test]
async fn a_story_that_does_not_exist_takes_no_event() {
    let server = Server::start();
    let bus = server.bus();
    let refused = bus.publish(&action("castle", "a")).await;
    assert!(matches!(refused, Err(Error::NoStory(_))), "{refused:?}");
    assert!(everything(&mut server.raw()).is_empty());
}

#[tokio::test]
async fn parked_events_answered_in_the_same_beat_end_with_it() {
    let (server, bus) = castle(&["a", "b", "c", "d"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let delivery = one(reader.next(10).await.unwrap());
    let fetched = bus.context(&delivery, (10, None), 2).await.unwrap();
    let consume: Vec<_> = fetched.parked.iter().map(|work| work.id.clone()).collect();
    assert!(consume.iter().map(story::EventId::as_str).eq(["b", "c"]));
    assert_eq!(fetched.context.history.len(), 4);

    let mut wrong = answered(&delivery);
    wrong.consume = vec![consume[1].clone()];
    let before = everything(&mut server.raw());
    let moved = bus.commit(&delivery, &wrong).await;
    assert!(matches!(moved, Err(Error::Moved)), "{moved:?}");
    assert_eq!(everything(&mut server.raw()), before);

    let effects = Commit {
        consume,
        ..answered(&delivery)
    };
    bus.commit(&delivery, &effects).await.unwrap();
    assert_eq!(ids(&reader.next(10).await.unwrap()), ["d"]);
}

#[tokio::test]
async fn follow_ups_stand_behind_what_waited_in_their_lane() {
    let (_server, bus) = castle(&["a", "b"]).await;
    let mut reader = bus.reader(NARRATOR, "w1");
    let delivery = one(reader.next(10).await.unwrap());
    let mut effects = answered(&delivery);
    let step = |part| Step {
        agent: NARRATOR,
        part,
    };
    effects.emit[0].route = Route::Logged(vec![step(0), step(1)]);
    bus.commit(&delivery, &effects).await.unwrap();
    for expected in [("b", 0), ("re-a", 0), ("re-a", 1)] {
        let delivery = one(reader.next(10).await.unwrap());
        let work = delivery.work.as_ref().unwrap();
        assert_eq!((work.id.as_str(), work.part), expected);
        bus.commit(&delivery, &Commit::default()).await.unwrap();
    }
}
