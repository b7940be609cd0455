//! A Redis that answers and refuses to write: nobody is ready, nothing is lost.

use super::LEASE;
use super::actor::Act;
use super::stage::Stage;
use super::worker::Worker;

#[tokio::test]
async fn a_worker_that_starts_while_redis_is_full_waits_like_one_that_runs() {
    let stage = Stage::with(&["one"]).await;
    stage.limit_memory("1").await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    // It is not ready from its first moment on: only Redis knows whether the two have met.
    let met = async || stage.has_refused_for_memory().await;
    stage.until("a refusal", met).await;
    worker.not_ready().await;
    stage.limit_memory("0").await;
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    worker.end().await;
}

/// The backlog is counted twice a lease meanwhile, and that is answered.
async fn stays_not_ready(worker: &Worker) {
    worker.not_ready().await;
    for _ in 0..20 {
        tokio::time::sleep(LEASE / 4).await;
        assert!(!worker.is_ready().await);
    }
}

/// A full Redis takes reads, deliveries and renewals, and refuses what an answer writes (once a script has written, as to
/// end a draft, it may go on).
#[tokio::test]
async fn a_worker_is_not_ready_while_an_answer_waits_for_a_full_redis() {
    let stage = Stage::with(&["one"]).await;
    let mut worker = stage.worker(LEASE, 0, |_| Act::AnswerAtOnceWhenTold);
    worker.begun("one").await;
    stage.limit_memory("1").await;
    worker.tell();
    stays_not_ready(&worker).await;
    stage.limit_memory("0").await;
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    worker.ready().await;
    worker.end().await;
}

#[tokio::test]
async fn a_worker_is_not_ready_while_redis_answers_and_refuses_to_write() {
    let stage = Stage::with(&[]).await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    worker.ready().await;
    stage.needs_replicas("1").await;
    stays_not_ready(&worker).await;
    stage.needs_replicas("0").await;
    worker.ready().await;
    stage.say("a", "one").await;
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    worker.end().await;
}
