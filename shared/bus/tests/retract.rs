//! What the moderator takes back, against a real Redis.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{
    Burial, Bus, Commit, Committed, Delivery, Draft, DraftChunk, Drafted, Emit, Published,
    Recording,
};
use redis::Commands;
use server::{
    Server, action, answer, castle, draft, event, everything, failure, given_up, one, story,
};
use story::{Agent, AuthorKind, Event, Narration, Payload, Route, Seq, Speak, Step};

const JUDGED: Step = Step {
    agent: Agent::Moderator,
    part: 0,
};

/// The narrator's answer `re-a`, which the moderator looks at afterwards.
async fn answered(bus: &Bus) {
    let delivery = bus
        .reader(Agent::Narrator, "w1")
        .next(1)
        .await
        .unwrap()
        .remove(0);
    let effects = Commit {
        emit: vec![Emit {
            event: answer(&delivery),
            route: Route::Logged(vec![JUDGED]),
        }],
        ..Commit::default()
    };
    bus.commit(&delivery, &effects).await.unwrap();
}

async fn judged(bus: &Bus) -> Delivery {
    let mut reader = bus.reader(Agent::Moderator, "m1");
    reader.next(1).await.unwrap().remove(0)
}

fn retracting() -> Commit {
    Commit {
        retract: Some("re-a".parse().unwrap()),
        ..Commit::default()
    }
}

async fn taken_back(bus: &Bus) {
    let delivery = judged(bus).await;
    bus.commit(&delivery, &retracting()).await.unwrap();
}

async fn texts(bus: &Bus) -> Vec<(u64, String)> {
    let log = bus.log(&story("castle"), Seq(0), 10).await.unwrap();
    let texts = log.iter().map(|entry| {
        let text = entry.event.payload().text().unwrap();
        (entry.seq.0, text.to_owned())
    });
    texts.collect()
}

#[tokio::test]
async fn an_event_taken_back_keeps_its_place_without_its_words() {
    let (server, bus) = castle(&["a"]).await;
    answered(&bus).await;
    bus.publish(&action("castle", "b")).await.unwrap();
    taken_back(&bus).await;
    let expected = [(1, "text of a"), (2, ""), (3, "text of b")];
    assert_eq!(
        texts(&bus).await,
        expected.map(|(seq, text)| (seq, text.to_owned()))
    );
    let tombstone: String = server.raw().hget("sf:{0}:gone:castle", 2).unwrap();
    assert!(tombstone.contains(r#""retracted":true"#) && !tombstone.contains("answer to"));
}

#[tokio::test]
async fn nobody_can_put_an_event_in_the_way_of_a_response_that_is_judged() {
    let (server, bus) = castle(&["a"]).await;
    answered(&bus).await;
    let shield = action("castle", "re-a");
    assert_eq!(bus.publish(&shield).await.unwrap(), Published::Duplicate);
    // Whatever way it came there.
    let mut raw = server.raw();
    let fields = [("e", shield.encode())];
    let _: String = raw.xadd("sf:{0}:log:castle", "3-0", &fields).unwrap();
    let _: u64 = raw.hincr("sf:{0}:ctx:castle", "seq", 1).unwrap();
    taken_back(&bus).await;
    let expected = [(1, "text of a"), (2, ""), (3, "text of re-a")];
    assert_eq!(
        texts(&bus).await,
        expected.map(|(seq, text)| (seq, text.to_owned()))
    );
}

#[tokio::test]
async fn no_page_is_too_small_to_show_what_was_taken_back() {
    let (server, bus) = castle(&[]).await;
    let mut raw = server.raw();
    for seq in 1..=6_u64 {
        let event = action("castle", &format!("a{seq}"));
        bus.publish(&event).await.unwrap();
        if (2..6).contains(&seq) {
            let _: u64 = raw
                .xdel("sf:{0}:log:castle", &[format!("{seq}-0")])
                .unwrap();
            let _: u64 = raw.hset("sf:{0}:gone:castle", seq, event.encode()).unwrap();
        }
    }
    for after in 0..6 {
        let page = bus.log(&story("castle"), Seq(after), 1).await.unwrap();
        let places: Vec<u64> = page.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(places, [after + 1]);
    }
    let _: u64 = raw.del("sf:{0}:gone:castle").unwrap();
    let page = bus.log(&story("castle"), Seq(1), 1).await.unwrap();
    assert_eq!(page[0].seq, Seq(6), "retention left nothing before it");
}

/// How often Redis was asked for a page of a log, from its end.
fn pages(raw: &mut redis::Connection) -> u64 {
    let stats: redis::InfoDict = redis::cmd("INFO").arg("commandstats").query(raw).unwrap();
    let told: Option<String> = stats.get("cmdstat_xrevrange");
    let calls = told.and_then(|told| {
        let calls = told.strip_prefix("calls=")?.split(',').next()?;
        calls.parse().ok()
    });
    calls.unwrap_or_default()
}

#[tokio::test]
async fn a_long_log_is_searched_only_while_the_entry_stands() {
    let (server, bus) = castle(&["a"]).await;
    answered(&bus).await;
    for n in 0..250 {
        bus.publish(&action("castle", &format!("b{n}")))
            .await
            .unwrap();
    }
    let mut raw = server.raw();
    let delivery = judged(&bus).await;
    let taken = bus.commit(&delivery, &retracting()).await.unwrap();
    assert_eq!(taken, Committed::Done(Vec::new()));
    assert_eq!(pages(&mut raw), 3);
    // As after a lost reply.
    let again = bus.commit(&delivery, &retracting()).await.unwrap();
    assert_eq!(again, Committed::Gone);
    assert_eq!(pages(&mut raw), 4);
    assert_eq!(texts(&bus).await[1], (2, String::new()));
}

#[tokio::test]
async fn whoever_lost_the_entry_stops_searching_and_takes_nothing_back() {
    let (server, bus) = castle(&["a"]).await;
    answered(&bus).await;
    for n in 0..250 {
        bus.publish(&action("castle", &format!("b{n}")))
            .await
            .unwrap();
    }
    let delivery = judged(&bus).await;
    let moderator = Agent::Moderator;
    let taken = bus.reclaim(moderator, "m2", Duration::ZERO, 1).await;
    assert_eq!(taken.unwrap().len(), 1);
    let fenced = bus.commit(&delivery, &retracting()).await.unwrap();
    assert_eq!(fenced, Committed::Fenced);
    assert_eq!(pages(&mut server.raw()), 1);
}

/// A beat in which the Sibyl has something to say, at place 2, and her turn.
async fn spoken_to(bus: &Bus) -> Delivery {
    let delivery = one(bus.reader(Agent::Narrator, "w1").next(1).await.unwrap());
    let beat = answer(&delivery);
    let Payload::Narration(narration) = beat.payload().clone() else {
        panic!("{beat:?} is no narration");
    };
    let speak = Speak {
        character: "Sibyl".into(),
        intent: String::new(),
    };
    let payload = Payload::Narration(Narration {
        speak: vec![speak],
        ..narration
    });
    let beat = Event::new(beat.id, beat.story, beat.author, payload, beat.at);
    let mut steps = story::passed(&beat);
    steps.push(JUDGED);
    let effects = Commit {
        emit: vec![Emit {
            event: beat,
            route: Route::Logged(steps),
        }],
        ..Commit::default()
    };
    bus.commit(&delivery, &effects).await.unwrap();
    one(bus.reader(Agent::Dialogue, "d1").next(1).await.unwrap())
}

async fn write(bus: &Bus, draft: &Draft, i: u32, text: &str) -> Drafted {
    let chunk = DraftChunk {
        draft,
        attempt: 1,
        i,
        n: 1,
        text,
    };
    bus.draft(&chunk).await.unwrap()
}

/// The keys of drafts that Redis has, and what it has of the story's.
fn drafts(server: &Server) -> Vec<String> {
    let all = everything(&mut server.raw());
    let keys = all.into_iter().map(|(key, _)| key);
    keys.filter(|key| key.contains(":draft")).collect()
}

#[tokio::test]
async fn what_is_said_in_a_beat_is_not_published_once_that_is_taken_back() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = spoken_to(&bus).await;
    let re = delivery.work.as_ref().unwrap().response(Agent::Dialogue);
    let draft = Draft {
        answers: Some(Seq(2)),
        ..draft(&delivery, re.clone())
    };
    assert_eq!(write(&bus, &draft, 0, "You said").await, Drafted::Ok);
    bus.keep_paid(&draft, b"begun", b"answer").await.unwrap();
    assert_eq!(drafts(&server).len(), 3);
    taken_back(&bus).await;
    let paid = format!("sf:{{0}}:draft:{re}:paid");
    assert_eq!(drafts(&server), [paid.as_str()], "its draft ended with it");

    let before = everything(&mut server.raw());
    for (i, text) in [(0, "You said"), (1, " it.")] {
        assert_eq!(write(&bus, &draft, i, text).await, Drafted::Ok);
    }
    assert!(bus.reset_draft(&draft).await.unwrap().is_some());
    assert!(everything(&mut server.raw()) == before, "it is written on");

    let keep = bus::Keep {
        turns: 10,
        age: Duration::from_secs(60),
    };
    let said = event(
        "castle",
        re.as_str(),
        AuthorKind::Agent,
        answer(&delivery).payload().clone(),
    );
    let effects = Commit {
        answers: Some(Seq(2)),
        emit: vec![Emit {
            event: said,
            route: Route::Logged(vec![JUDGED]),
        }],
        fields: vec![("turn".to_owned(), "9".to_owned())],
        responses: vec![re],
        recording: Some(Recording {
            epoch: "this".to_owned(),
            bytes: vec![0],
            keep,
        }),
        ..Commit::default()
    };
    let done = bus.commit(&delivery, &effects).await.unwrap();
    assert_eq!(done, Committed::Done(Vec::new()));
    let expected = [(1, "text of a"), (2, "")].map(|(seq, text)| (seq, text.to_owned()));
    assert_eq!(texts(&bus).await, expected);
    assert_eq!(drafts(&server), [""; 0]);
    let mut raw = server.raw();
    let field: Option<String> = raw.hget("sf:{0}:ctx:castle", "turn").unwrap();
    assert_ne!(field.as_deref(), Some("9"));
    let kept: u64 = raw.xlen("sf:{0}:rec:castle").unwrap();
    assert_eq!(kept, 1, "how the turn went");
    for agent in [Agent::Dialogue, Agent::Moderator] {
        assert_eq!(bus.backlog(agent).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_was_to_join_an_answer_that_is_not_published_is_still_answered() {
    let (server, bus) = castle(&["a", "b"]).await;
    let first = one(bus.reader(Agent::Narrator, "w1").next(1).await.unwrap());
    let _: u64 = server.raw().hset("sf:{0}:gone:castle", 1, "{}").unwrap();
    let effects = Commit {
        answers: Some(Seq(1)),
        consume: vec!["b".parse().unwrap()],
        ..server::answered(&first)
    };
    bus.commit(&first, &effects).await.unwrap();
    let next = bus.reader(Agent::Narrator, "w1").next(5).await.unwrap();
    assert_eq!(server::ids(&next), ["b"]);
}

#[tokio::test]
async fn what_is_answered_is_found_as_far_back_as_it_is_until_it_is_taken_back() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = spoken_to(&bus).await;
    for n in 0..250 {
        bus.publish(&action("castle", &format!("b{n}")))
            .await
            .unwrap();
    }
    let mut raw = server.raw();
    let end = bus.log(&story("castle"), Seq(1), 1_000).await.unwrap();
    let found = bus.still_at(&delivery, &end).await.unwrap();
    assert_eq!((found, pages(&mut raw)), (Some(Seq(2)), 0));
    for (end, asked) in [(&end[200..], 2), (&[][..], 5)] {
        let found = bus.still_at(&delivery, end).await.unwrap();
        assert_eq!((found, pages(&mut raw)), (Some(Seq(2)), asked));
    }
    taken_back(&bus).await;
    assert_eq!(bus.still_at(&delivery, &[]).await.unwrap(), None);
    // What stays in its place may be in a log that was put together.
    let end = bus.log(&story("castle"), Seq(0), 1_000).await.unwrap();
    assert_eq!(bus.still_at(&delivery, &end).await.unwrap(), None);
}

#[tokio::test]
async fn no_letter_has_the_words_of_what_was_taken_back() {
    let (server, bus) = castle(&["a"]).await;
    let delivery = spoken_to(&bus).await;
    let re = delivery.work.as_ref().unwrap().response(Agent::Dialogue);
    let draft = Draft {
        answers: Some(Seq(2)),
        ..draft(&delivery, re)
    };
    bus.keep_paid(&draft, b"begun", b"answer").await.unwrap();
    taken_back(&bus).await;
    let keep = bus::Keep {
        turns: 10,
        age: Duration::from_secs(60),
    };
    let burial = Burial {
        answers: Some(Seq(2)),
        recording: Some(Recording {
            epoch: "this".to_owned(),
            bytes: vec![0],
            keep,
        }),
        ..given_up(Some(failure("castle", "failed-a", "re-a")))
    };
    let done = bus.bury(&delivery, &burial).await.unwrap();
    assert_eq!(done, Committed::Done(Vec::new()));
    let expected = [(1, "text of a"), (2, "")].map(|(seq, text)| (seq, text.to_owned()));
    assert_eq!(texts(&bus).await, expected);
    assert_eq!(bus.dead_count(Agent::Dialogue).await.unwrap(), 0);
    assert_eq!(bus.backlog(Agent::Dialogue).await.unwrap(), 0);
    assert_eq!(drafts(&server), [""; 0]);
    let kept: u64 = server.raw().xlen("sf:{0}:rec:castle").unwrap();
    assert_eq!(kept, 1, "how the turn went");
}
