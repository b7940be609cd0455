//! The doctor where Redis itself is ill, where other programs were, and where events were destroyed.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod server;

use std::time::Duration;

use bus::{Bus, Finding, Retention};
use redis::Commands;
use server::{Server, action, answered, create, everything, held_castle, story};
use story::{Agent, OutputPolicy, Policies, Route};

const NARRATOR: Agent = Agent::Narrator;

async fn answer_next(bus: &Bus) -> String {
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let id = delivery.work.as_ref().unwrap().id.to_string();
    let effects = answered(&delivery);
    bus.commit(&delivery, &effects).await.unwrap();
    id
}

fn says(findings: &[Finding], words: &str) -> bool {
    findings.iter().any(|finding| finding.what.contains(words))
}

#[tokio::test]
async fn a_key_of_another_type_is_named_and_other_stories_are_looked_at() {
    for key in ["log", "seen", "turn:narrator", "parked:narrator", "ctx"] {
        let server = Server::start();
        let bus = server.bus();
        for story in ["castle", "forest"] {
            create(&bus, story, Policies::default()).await;
            bus.publish(&action(story, "a")).await.unwrap();
        }
        answer_next(&bus).await;
        answer_next(&bus).await;
        let mut raw = server.raw();
        let name = format!("sf:{{0}}:{key}:castle");
        let _: u64 = raw.del(&name).unwrap();
        let _: u64 = raw.hset(&name, "epoch", "x").unwrap();
        if key == "ctx" {
            let _: u64 = raw.del(&name).unwrap();
            let _: u64 = raw.sadd(&name, "x").unwrap();
        }
        let audit = bus.audit().await.unwrap();
        assert_eq!((audit.events, audit.answered), (1, 1), "{key}");
        assert_eq!(audit.unreadable.len(), 1, "{key}");
        assert_eq!(audit.unreadable[0].story.as_str(), "castle", "{key}");
        assert!(!audit.is_clean());
        for fix in [false, true] {
            let findings = bus.doctor(fix).await.unwrap();
            assert!(
                says(&findings, &format!("the key {name} is a ")),
                "{findings:?}"
            );
            assert!(findings.len() == 1 && !findings[0].fixed, "{findings:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_no_story_can_have_is_told_and_other_stories_are_looked_at() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    let _: u64 = server.raw().sadd("sf:{0}:stories", b"No\xff\x1b!").unwrap();
    assert_eq!(bus.stories().await.unwrap(), [server::story("castle")]);
    assert!(bus.audit().await.unwrap().is_clean());
    let findings = bus.doctor(true).await.unwrap();
    assert!(says(&findings, "is no story's name"), "{findings:?}");
    assert!(!format!("{findings:?}").contains('\u{1b}'));
}

#[tokio::test]
async fn a_story_whose_settings_are_lost_or_spoilt_is_found() {
    let server = Server::start();
    let bus = server.bus();
    for story in ["castle", "forest"] {
        create(&bus, story, Policies::default()).await;
    }
    let mut raw = server.raw();
    let _: u64 = raw.del("sf:{0}:ctx:castle").unwrap();
    let _: u64 = raw.hset("sf:{0}:ctx:forest", "input", "maybe").unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(
        says(&findings, "the story castle cannot be read"),
        "{findings:?}"
    );
    assert!(
        says(&findings, "the field input is 'maybe'"),
        "{findings:?}"
    );
    assert!(!bus.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn work_of_a_wrong_type_ends_no_round() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    let _: () = server.raw().set("sf:{0}:work:narrator", "x").unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(
        says(&findings, "sf:{0}:work:narrator is a string, not a stream"),
        "{findings:?}"
    );
}

#[tokio::test]
async fn a_redis_that_refuses_every_change_is_found_and_nothing_is_tried() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let mut raw = server.raw();
    let _: u64 = raw.del("sf:{0}:work:narrator").unwrap();
    assert_eq!(bus.doctor(false).await.unwrap().len(), 2);

    let config = |name: &str, value: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(name).arg(value);
        set.exec(&mut server.raw()).unwrap();
    };
    config("maxmemory", "1");
    let findings = bus.doctor(true).await.unwrap();
    assert!(says(&findings, "raise its maxmemory"), "{findings:?}");
    assert!(
        findings.iter().all(|finding| !finding.fixed),
        "{findings:?}"
    );
    config("maxmemory", "0");

    server.lose_disk();
    let findings = bus.doctor(true).await.unwrap();
    assert!(says(&findings, "free space there"), "{findings:?}");
    assert!(
        findings.iter().all(|finding| !finding.fixed),
        "{findings:?}"
    );
    let refused = bus.publish(&action("castle", "b")).await.unwrap_err();
    assert!(
        refused.to_string().contains("free space there"),
        "{refused}"
    );
    config("save", "");

    let findings = bus.doctor(true).await.unwrap();
    assert!(findings.iter().all(|finding| finding.fixed), "{findings:?}");
    assert_eq!(answer_next(&bus).await, "a");
    assert_eq!(bus.doctor(false).await.unwrap(), []);
}

#[tokio::test]
async fn an_action_whose_lane_was_destroyed_is_answered_once_after_all() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    for id in ["a", "b"] {
        bus.publish(&action("castle", id)).await.unwrap();
    }
    for key in [
        "work:narrator",
        "turn:narrator:castle",
        "parked:narrator:castle",
    ] {
        let _: u64 = server.raw().del(format!("sf:{{0}}:{key}")).unwrap();
    }
    bus.publish(&action("castle", "c")).await.unwrap();
    let findings = bus.doctor(false).await.unwrap();
    // The third: the stream that the last action made has no group.
    assert_eq!(findings.len(), 3, "{findings:?}");
    assert!(
        says(&findings, "no agent has the action a of the story castle"),
        "{findings:?}"
    );
    assert_eq!(bus.audit().await.unwrap().lost, 2);

    // However many look at once, each puts back what no other has.
    let (one, other) = tokio::join!(bus.doctor(true), bus.doctor(true));
    assert!(one.unwrap().iter().all(|finding| finding.fixed));
    other.unwrap();
    assert_eq!(bus.doctor(false).await.unwrap(), []);
    for expected in ["c", "a", "b"] {
        assert_eq!(answer_next(&bus).await, expected);
    }
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (3, true), "{audit:?}");
}

#[tokio::test]
async fn an_action_whose_turn_and_worker_are_gone_is_put_back() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    bus.reader(NARRATOR, "w1").next(5).await.unwrap();
    let _: u64 = server.raw().del("sf:{0}:turn:narrator:castle").unwrap();
    let mut gone = redis::cmd("XGROUP");
    gone.arg(&["DELCONSUMER", "sf:{0}:work:narrator", "fleet", "w1"]);
    let _: u64 = gone.query(&mut server.raw()).unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(findings.len() == 1 && findings[0].fixed, "{findings:?}");
    assert_eq!(answer_next(&bus).await, "a");
    assert!(bus.audit().await.unwrap().is_clean());
}

#[tokio::test]
async fn an_action_that_lost_turn_and_worker_waits_behind_the_one_that_came_since() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let held = bus.reader(NARRATOR, "w1").next(5).await.unwrap();
    let _: u64 = server.raw().del("sf:{0}:turn:narrator:castle").unwrap();
    bus.publish(&action("castle", "b")).await.unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(
        findings.len() == 1 && !findings[0].fixed,
        "a worker has it: {findings:?}"
    );
    drop(held);
    let mut gone = redis::cmd("XGROUP");
    gone.arg(&["DELCONSUMER", "sf:{0}:work:narrator", "fleet", "w1"]);
    let _: u64 = gone.query(&mut server.raw()).unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(findings.len() == 1 && findings[0].fixed, "{findings:?}");
    assert!(bus.doctor(false).await.unwrap().is_empty());
    assert_eq!(answer_next(&bus).await, "b");
    assert_eq!(answer_next(&bus).await, "a");
    let audit = bus.audit().await.unwrap();
    let wrong = (audit.lost, audit.duplicates, audit.orphans);
    assert_eq!((audit.answered, wrong), (2, (0, 0, 0)), "{audit:?}");
}

#[tokio::test]
async fn a_held_answer_whose_lane_lost_its_turn_is_in_flight() {
    let server = Server::start();
    let bus = server.bus();
    let output = OutputPolicy::Hold;
    create(
        &bus,
        "castle",
        Policies {
            output,
            ..Policies::default()
        },
    )
    .await;
    bus.publish(&action("castle", "a")).await.unwrap();
    let delivery = bus.reader(NARRATOR, "w1").next(1).await.unwrap().remove(0);
    let mut held = answered(&delivery);
    held.emit[0].route = Route::Held;
    bus.commit(&delivery, &held).await.unwrap();
    let _: u64 = server.raw().del("sf:{0}:turn:moderator:castle").unwrap();
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.in_flight, audit.lost), (1, 0), "{audit:?}");
}

#[tokio::test]
async fn an_action_whose_lane_lost_its_turn_is_answered_once() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    for id in ["a", "b"] {
        bus.publish(&action("castle", id)).await.unwrap();
    }
    let _: u64 = server.raw().del("sf:{0}:turn:narrator:castle").unwrap();
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.in_flight, audit.lost, audit.orphans), (2, 0, 1));
    let held = bus.reader(NARRATOR, "w1").next(5).await.unwrap();
    let findings = bus.doctor(true).await.unwrap();
    assert!(findings.len() == 1 && findings[0].fixed, "{findings:?}");
    // Nothing goes beside what is in flight.
    assert!(bus.reader(NARRATOR, "w2").next(5).await.unwrap().is_empty());
    bus.commit(&held[0], &answered(&held[0])).await.unwrap();
    assert_eq!(answer_next(&bus).await, "b");
    assert_eq!(bus.backlog(NARRATOR).await.unwrap(), 0);
    let audit = bus.audit().await.unwrap();
    assert_eq!((audit.answered, audit.is_clean()), (2, true), "{audit:?}");
}

#[tokio::test]
async fn an_action_is_not_put_back_once_the_log_has_gone_on() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    let lost = action("castle", "a");
    bus.publish(&lost).await.unwrap();
    answer_next(&bus).await;
    let mut raw = server.raw();
    let before = everything(&mut raw);
    let mut readmit = redis::cmd("EVAL");
    readmit.arg(concat!(
        include_str!("../scripts/lane.lua"),
        include_str!("../scripts/readmit.lua")
    ));
    readmit.arg(5);
    for key in [
        "ctx:castle",
        "work:narrator",
        "turn:narrator:castle",
        "parked:narrator:castle",
        "redriven:castle",
    ] {
        readmit.arg(format!("sf:{{0}}:{key}"));
    }
    // As seen before its answer was logged.
    readmit.arg(&["castle", "a", "0"]).arg(lost.encode()).arg(1);
    let reply: Vec<String> = readmit.query(&mut raw).unwrap();
    assert_eq!(reply, ["MOVED"]);
    assert_eq!(everything(&mut raw), before);
}

#[tokio::test]
async fn a_held_action_that_was_destroyed_is_told_and_cannot_be_put_back() {
    let (server, bus) = held_castle().await;
    for key in ["work:moderator", "turn:moderator:castle"] {
        let _: u64 = server.raw().del(format!("sf:{{0}}:{key}")).unwrap();
    }
    let findings = bus.doctor(true).await.unwrap();
    assert!(
        says(&findings, "sent again under another id"),
        "{findings:?}"
    );
    assert!(!findings[0].fixed);
}

#[tokio::test]
async fn a_hole_in_a_log_and_a_count_ahead_of_it_are_told() {
    let server = Server::start();
    let bus = server.bus();
    create(&bus, "castle", Policies::default()).await;
    for id in ["a", "b", "c", "d", "e", "f"] {
        bus.publish(&action("castle", id)).await.unwrap();
        answer_next(&bus).await;
    }
    let trimmed = Retention {
        events: 8,
        age: Duration::ZERO,
    };
    assert_eq!(bus.trim(&story("castle"), trimmed).await.unwrap(), 4);
    assert_eq!(bus.doctor(true).await.unwrap(), []);
    let mut raw = server.raw();
    let log = "sf:{0}:log:castle";
    // An answer, an action with its answer, and the log's end.
    let gone = ["6-0", "9-0", "10-0"];
    let _: u64 = raw.xdel(log, &gone).unwrap();
    let _: u64 = raw.hincr("sf:{0}:ctx:castle", "seq", 2).unwrap();
    for fix in [false, true] {
        let findings = bus.doctor(fix).await.unwrap();
        for words in [
            "the log sf:{0}:log:castle has no event 6:",
            "the log sf:{0}:log:castle has no events 9 to 10:",
            "the story castle counts 14 events and its log ends at 12:",
        ] {
            let found = findings.iter().find(|found| found.what.contains(words));
            assert!(!found.expect(words).fixed, "{findings:?}");
        }
    }
}
