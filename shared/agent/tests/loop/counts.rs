//! What a worker tells of the fleet's queues, and of what no replica has.

use agent::Metrics;

use super::LEASE;
use super::actor::Act;
use super::stage::Stage;

#[tokio::test]
async fn a_worker_that_cannot_count_tells_of_no_queue() {
    let mut stage = Stage::new().await;
    let worker = stage.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    let queues = ["backlog", "oldest_event_seconds", "dead_letters"];
    let agents = ["narrator", "dialogue", "moderator"];
    let series: Vec<_> = queues
        .iter()
        .flat_map(|queue| agents.map(|agent| format!("storyfleet_{queue}{{agent=\"{agent}\"}}")))
        .collect();
    let all = |told| {
        let worker = &worker;
        let series = &series;
        async move || series.iter().all(|each| worker.counts(each) == told)
    };
    stage.until("they are told", all(true)).await;
    stage.stop_redis().await;
    stage.until("none is told", all(false)).await;
    stage.start_redis().await;
    stage.until("they are told again", all(true)).await;
    let metrics = worker.metrics();
    worker.end().await;
    assert!(!metrics.encode().unwrap().contains("storyfleet_backlog{"));
}

#[tokio::test]
async fn what_cannot_be_counted_is_not_told_and_keeps_no_worker_from_being_ready() {
    let stage = Stage::new().await;
    stage.misplace("sf:{0}:dead:dialogue").await;
    stage.misplace("sf:{0}:work:moderator").await;
    let worker = stage.worker(LEASE, 0, |_| Act::AnswerWhenTold);
    let told = |queue: &str| worker.counts(&format!("storyfleet_{queue}\"}}"));
    stage
        .until("all are counted", async || told("backlog{agent=\"dialogue"))
        .await;
    for queue in [
        "oldest_event_seconds{agent=\"dialogue",
        "dead_letters{agent=\"moderator",
    ] {
        assert!(told(queue), "{queue}");
    }
    let hidden = [
        "dead_letters{agent=\"dialogue",
        "backlog{agent=\"moderator",
        "oldest_event_seconds{agent=\"moderator",
    ];
    for queue in hidden {
        assert!(!told(queue), "{queue}");
    }
    assert!(worker.is_ready().await);
    // What was told is told no more.
    stage.misplace("sf:{0}:dead:moderator").await;
    stage
        .until("that it is hidden too", async || {
            !told("dead_letters{agent=\"moderator")
        })
        .await;
    worker.end().await;
}

/// Nobody follows this Redis.
#[tokio::test]
async fn what_no_replica_has_is_counted_of_all_workers_and_of_one_that_drains() {
    let stage = Stage::with(&["one"]).await;
    let metrics = Metrics::new();
    let counted = |count| format!("storyfleet_unreplicated_total{{agent=\"narrator\"}} {count}");
    let mut first = stage.worker_with_replicas(&metrics, |_| Act::AnswerWhenTold);
    first.begun("one").await;
    first.drain();
    let second = stage.worker_with_replicas(&metrics, |_| Act::Answer);
    stage.story("b").await;
    stage.say("b", "two").await;
    let seconds = counted(1);
    stage
        .until("the second's", async || second.counts(&seconds))
        .await;
    first.tell();
    let both = counted(2);
    stage
        .until("the first's", async || first.counts(&both))
        .await;
    first.end().await;
    second.end().await;
    assert!(metrics.encode().unwrap().contains(&both));
}
