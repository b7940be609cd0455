//! Events that kill, fail or are none: buried, each alone.

use agent::HandleError;

use super::LEASE;
use super::actor::Act;
use super::stage::Stage;

#[tokio::test]
async fn poison_is_buried_after_three_deliveries_and_the_story_goes_on() {
    let stage = Stage::with(&["poison", "next"]).await;
    let worker = stage.worker(LEASE, 0, |id| match id {
        "poison" => Act::Panic,
        _ => Act::Answer,
    });
    assert_eq!(stage.answers("a", 1).await, [["next"]]);
    assert_eq!(
        stage.failures("a").await,
        [("crash".to_owned(), "poison".to_owned())]
    );
    assert_eq!(worker.times_begun("poison"), 3);
    worker.end().await;
    assert_eq!((stage.dead().await, stage.backlog().await), (1, 0));
}

#[tokio::test]
async fn nothing_dies_of_the_poison_behind_it() {
    let stage = Stage::with(&["one", "two", "poison"]).await;
    let worker = stage.worker(LEASE, 2, |id| match id {
        "poison" => Act::Panic,
        _ => Act::Answer,
    });
    stage
        .until("the burial", async || stage.dead().await == 1)
        .await;
    assert_eq!(stage.answers("a", 2).await, [["one"], ["two"]]);
    assert_eq!(
        stage.failures("a").await,
        [("crash".to_owned(), "poison".to_owned())]
    );
    worker.end().await;
}

#[tokio::test]
async fn what_an_agent_fails_at_is_not_tried_again() {
    let stage = Stage::with(&["one"]).await;
    let worker = stage.worker(LEASE, 0, |_| {
        Act::Fail(HandleError::permanent("prompt", anyhow::anyhow!("no")))
    });
    stage
        .until("the burial", async || stage.dead().await == 1)
        .await;
    let failed = ("prompt".to_owned(), "one".to_owned());
    assert_eq!(stage.failures("a").await, [failed]);
    assert_eq!(worker.times_begun("one"), 1);
    worker.end().await;
}

#[tokio::test]
async fn what_is_no_event_is_buried_and_others_are_answered() {
    let stage = Stage::new().await;
    stage.story("a").await;
    stage.garbage().await;
    stage.say("a", "one").await;
    let worker = stage.worker(LEASE, 0, |_| Act::Answer);
    assert_eq!(stage.answers("a", 1).await, [["one"]]);
    stage
        .until("the burial", async || stage.dead().await == 1)
        .await;
    worker.end().await;
    assert_eq!(stage.backlog().await, 0);
}

#[tokio::test]
async fn what_answers_too_much_to_be_told_is_buried_too() {
    let stage = Stage::with(&[]).await;
    stage.overlong().await;
    let worker = stage.worker(LEASE, 0, |_| {
        let error = anyhow::anyhow!("no");
        Act::Fail(HandleError::permanent("blocked", error))
    });
    stage
        .until("the burial", async || stage.dead().await == 1)
        .await;
    let failures = stage.failures("a").await;
    assert_eq!(failures, [("blocked".to_owned(), "overlong".to_owned())]);
    worker.end().await;
    assert_eq!(stage.backlog().await, 0);
}
