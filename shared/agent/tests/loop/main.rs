//! The worker loop against a real redis-server, with an agent that does what each test tells it to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod actor;
mod counts;
#[path = "../../../bus/tests/server/network.rs"]
#[allow(dead_code, unreachable_pub, reason = "the bus tests it further")]
mod network;
mod poison;
mod prompts;
mod ready;
mod stage;
mod taken_back;
mod worker;

use std::time::Duration;

use actor::Act;
use agent::HandleError;
use bus::Seen;
use network::Network;
use stage::{SLOTS, Stage};
use story::OutputPolicy;
use worker::Worker;

const LEASE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn events_of_a_story_are_answered_in_order() {
    let stage = Stage::new().await;
    for story in ["a", "b"] {
        stage.story(story).await;
        for n in 0..5 {
            stage.say(story, &format!("{story}{n}")).await;
        }
    }
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    for story in ["a", "b"] {
        let answers = stage.answers(story, 5).await;
        let wanted: Vec<_> = (0..5).map(|n| vec![format!("{story}{n}")]).collect();
        assert_eq!(answers, wanted);
    }
    worker.end().await;
    assert_eq!(stage.backlog().await, 0);
}

#[tokio::test]
async fn waiting_events_join_a_beat() {
    let stage = Stage::with(&["one", "two", "three", "four"]).await;
    let worker = stage.worker(LEASE, 2, |_| Act::Answer);
    let answers = stage.answers("a", 2).await;
    assert_eq!(answers, [vec!["one", "two", "three"], vec!["four"]]);
    worker.end().await;
    assert_eq!(stage.backlog().await, 0);
}

#[tokio::test]
async fn a_response_that_waits_for_its_verdict_ends_its_turn() {
    let stage = Stage::new().await;
    stage.story_of("a", OutputPolicy::Hold).await;
    stage.say("a", "one").await;
    let mut worker = stage.worker(LEASE, 0, |_| Act::Answer);
    worker.begun("one").await;
    stage
        .until("the commit", async || stage.backlog().await == 0)
        .await;
    worker.end().await;
    assert_eq!(stage.log("a").await.len(), 1);
}

#[tokio::test]
async fn an_answer_that_takes_time_is_read_as_it_grows_and_one_that_does_not_is_read_once() {
    let stage = Stage::new().await;
    stage.story("a").await;
    let worker = stage.worker(LEASE, 0, |id| match id {
        "slow" => Act::AnswerWhenTold,
        _ => Act::Answer,
    });
    let mut reader = stage.hear("a").await;
    stage.say("a", "quick").await;
    for _ in ["the action", "its answer"] {
        let seen = reader.next().await.unwrap();
        assert!(matches!(seen, Seen::Event(_)), "{seen:?}");
    }
    // Whoever still reads which drafts run would be given its beginning whole.
    while !reader.is_caught_up() {
        assert_eq!(reader.next_or_caught_up().await.unwrap(), None);
    }
    stage.say("a", "slow").await;
    assert!(matches!(reader.next().await.unwrap(), Seen::Event(_)));
    let grown = reader.next().await.unwrap();
    assert!(matches!(grown, Seen::Delta { .. }), "{grown:?}");
    worker.tell();
    assert!(matches!(reader.next().await.unwrap(), Seen::Event(_)));
    worker.end().await;
}

#[tokio::test]
async fn an_event_is_not_given_up_for_what_joined_its_beat() {
    let stage = Stage::with(&["one", "untellable", "three"]).await;
    let worker = stage.worker(LEASE, 2, |id| match id {
        "untellable" => Act::Fail(HandleError::permanent(
            "context",
            anyhow::anyhow!("too long"),
        )),
        _ => Act::Answer,
    });
    assert_eq!(stage.answers("a", 2).await, [["one"], ["three"]]);
    let failed = ("context".to_owned(), "untellable".to_owned());
    assert_eq!(stage.failures("a").await, [failed]);
    worker.end().await;
    assert_eq!(stage.backlog().await, 0);
}

#[tokio::test]
async fn a_drain_past_its_limit_gives_the_event_back_uncharged() {
    let stage = Stage::with(&["one"]).await;
    let mut worker = stage.worker(Duration::from_secs(60), 0, |_| Act::Hang);
    worker.begun("one").await;
    worker.end().await;
    // The lease of 60 s was cut short, and the next delivery is the first that counts.
    assert_eq!(stage.steal(Duration::from_secs(60)).await, [1]);
}

#[tokio::test]
async fn a_worker_that_is_gone_is_forgotten() {
    let stage = Stage::with(&["one"]).await;
    stage.ghost().await;
    assert!(stage.knows_the_ghost().await);
    let worker = stage.worker(Duration::from_millis(100), 0, |_| Act::Answer);
    stage
        .until("the end of the ghost", async || {
            !stage.knows_the_ghost().await
        })
        .await;
    worker.end().await;
}

#[tokio::test]
async fn a_worker_that_cannot_forget_the_gone_is_ready_all_the_same() {
    let stage = Stage::with(&["one"]).await;
    let worker = stage.worker(Duration::from_millis(100), 0, |_| Act::Answer);
    worker.ready().await;
    stage.answers("a", 1).await;
    stage.deny("xinfo").await;
    stage.say("a", "two").await;
    stage.answers("a", 2).await;
    assert!(worker.is_ready().await);
    worker.end().await;
}

#[tokio::test]
async fn a_lost_lease_stops_the_turn_and_another_worker_answers_once() {
    let stage = Stage::with(&["one"]).await;
    let mut first = stage.worker(LEASE, 0, |_| Act::Hang);
    first.begun("one").await;
    assert_eq!(stage.steal(Duration::ZERO).await, [2]);
    first.dropped("one").await;
    let second = stage.worker(LEASE, 0, |_| Act::Answer);
    // Whoever of the two gets the entry next: only the second answers.
    first.end().await;
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    second.end().await;
    assert_eq!(stage.log("a").await.len(), 2);
}

#[tokio::test]
async fn a_turn_that_has_ended_its_event_is_counted_so_though_the_reply_was_lost() {
    for (is, event, outcome) in [
        ("one", "\"type\":\"narration\"", "answered"),
        ("untellable", "\"type\":\"failed\"", "buried"),
    ] {
        let stage = Stage::new().await;
        let network = Network::before(&stage.url());
        stage.story("a").await;
        stage.say("a", is).await;
        network.withhold_reply(event);
        let worker = stage.worker_over(network.url(), LEASE, 0, |id| match id {
            "one" => Act::Answer,
            _ => Act::Fail(HandleError::permanent("prompt", anyhow::anyhow!("no"))),
        });
        // The reply is waited for 2 s, and each renewal within them finds the entry gone.
        let counted =
            format!("storyfleet_events_total{{agent=\"narrator\",outcome=\"{outcome}\"}} 1");
        stage
            .until(&counted, async || worker.counts(&counted))
            .await;
        assert!(network.has_failed());
        assert!(worker.counts("storyfleet_leases_lost_total{agent=\"narrator\"} 0"));
        worker.end().await;
        assert_eq!((stage.log("a").await.len(), stage.backlog().await), (2, 0));
    }
}

#[tokio::test]
async fn a_turn_whose_event_another_worker_had_meanwhile_begins_anew() {
    // Renewed every 2 s and looked for every second: what was borrowed is back before a renewal tells.
    let lease = 10 * LEASE;
    let stage = Stage::new().await;
    stage.story("a").await;
    stage.say("a", "one").await;
    stage.deserter().await;
    let mut worker = stage.worker(lease, 0, |_| Act::Hang);
    worker.begun("one").await;
    stage.until_renewed().await;
    assert_eq!(stage.borrow().await, [3]);
    worker.dropped("one").await;
    stage
        .until("the second turn", async || worker.times_begun("one") == 2)
        .await;
    worker.end().await;
    assert_eq!(stage.steal(lease).await, [3]);
}

#[tokio::test]
async fn what_a_dead_worker_left_is_taken_over_before_the_backlog_is_done() {
    let stage = Stage::new().await;
    stage.story("left").await;
    stage.say("left", "left").await;
    stage.deserter().await;
    for n in 0..100 {
        let story = format!("story-{n}");
        stage.story(&story).await;
        stage.say(&story, &story).await;
    }
    // New events come sooner than what was left can be taken over.
    let network = Network::before(&stage.url());
    network.slow_scripts();
    let worker = stage.worker_over(network.url(), LEASE, 0, |_| Act::AnswerAfter(LEASE / 2));
    assert_eq!(stage.answers("left", 1).await, [["left"]]);
    assert!(stage.backlog().await > 8);
    worker.end().await;
}

#[tokio::test]
async fn a_worker_outlives_redis_and_answers_when_it_is_back() {
    let mut stage = Stage::new().await;
    stage.story("a").await;
    stage.stop_redis().await;
    let mut worker = stage.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    worker.not_ready().await;
    stage.start_redis().await;
    worker.ready().await;
    stage.say("a", "one").await;
    worker.begun("one").await;
    // Away exactly when the answer is to be committed.
    stage.stop_redis().await;
    worker.tell();
    worker.not_ready().await;
    stage.start_redis().await;
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    worker.end().await;
    assert_eq!(stage.log("a").await.len(), 2);
}

/// A worker with an event in each of its slots, which waits to be told to answer.
async fn full(stage: &Stage) -> Worker {
    let mut worker = stage.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    for n in 0..SLOTS {
        let story = format!("story-{n}");
        stage.story(&story).await;
        stage.say(&story, &story).await;
        worker.begun(&story).await;
    }
    worker
}

/// For longer than a silent loop is given, 30 s.
#[tokio::test]
async fn a_worker_that_waits_for_work_or_for_a_slot_lives() {
    let (idle, busy) = (Stage::new().await, Stage::new().await);
    let resting = idle.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    let full = full(&busy).await;
    for second in 0..35 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(resting.lives().await && full.lives().await, "{second}");
    }
    full.tell();
    full.end().await;
    resting.end().await;
}

#[tokio::test]
async fn the_backlog_is_told_while_every_slot_is_taken() {
    let stage = Stage::new().await;
    let worker = full(&stage).await;
    // Longer than until the next look for abandoned events, which then waits for a slot.
    tokio::time::sleep(LEASE).await;
    stage.story("last").await;
    stage.say("last", "last").await;
    let told = format!("storyfleet_backlog{{agent=\"narrator\"}} {}", SLOTS + 1);
    stage
        .until("the backlog", async || worker.counts(&told))
        .await;
    worker.tell();
    worker.end().await;
}

#[tokio::test]
async fn a_slot_that_redis_frees_with_its_return_takes_nothing_from_the_living() {
    let mut stage = Stage::new().await;
    stage.story("living").await;
    stage.say("living", "living").await;
    let lease = stage.deserter().await;
    let mut worker = stage.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    let stories: Vec<_> = (0..SLOTS).map(|n| format!("story-{n}")).collect();
    for story in &stories {
        stage.story(story).await;
        stage.say(story, story).await;
        worker.begun(story).await;
        assert!(stage.renews(&lease).await);
    }
    // The next look for abandoned events now waits for a slot.
    tokio::time::sleep(LEASE / 2).await;
    assert!(stage.renews(&lease).await);
    tokio::time::sleep(LEASE / 4).await;
    stage.stop_redis().await;
    worker.tell();
    worker.not_ready().await;
    // Away for as long as every lease lasts.
    tokio::time::sleep(LEASE).await;
    stage.start_redis().await;
    for story in &stories {
        stage.answers(story, 1).await;
    }
    assert!(stage.renews(&lease).await);
    worker.end().await;
}
