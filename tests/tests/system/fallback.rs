//! Models that fail: others that are asked in their place, and events that wait where there is none.

use story::{Agent, Outcome, Payload, Policies, Status};
use system_tests::fallback::{Plan, run};
use system_tests::{Model, Options, Process, Stack, eventually};

use crate::replay::replay;

const OPENED: &str = "the model fails: it is left alone";
const CLOSED: &str = "the model answers again";

#[tokio::test]
async fn whatever_the_first_model_does_another_one_answers_whole_and_seldom_at_twice_the_requests()
-> anyhow::Result<()> {
    let plan = Plan {
        workers: 3,
        stories: 12,
        lines: 200,
        faults: 60,
    };
    let report = run(plan, |_| {}).await?;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.failed, 0);
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_refused_is_shown_once_and_its_turns_replay_as_they_went()
-> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.change_model_key("sk-right").await?;
    let other = Model::start("", &[]).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    let yaml = format!(
        "models: {{mock: {{then: [small], temperature: 0.5}}, small: {{at: '{}', name: tiny, max_tokens: 300, price: {{input: 1, output: 2}}}}}}",
        other.url()
    );
    std::fs::write(&file, yaml)?;
    let models = file.display().to_string();
    let options = ["--models", &models, "--llm-api-key", "sk-wrong"];
    let (worker, mut log) = stack.worker_with(Agent::Narrator, &options)?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for id in ["a", "b", "c"] {
        let action = stack.act(&story, id, "I go on.").await?;
        assert_eq!(reader.outcome_of(&action).await?, Outcome::Answered);
        log.line(OPENED).await?;
    }
    for (id, calls) in [("a", 1), ("b", 0), ("c", 0)] {
        assert_eq!(stack.calls_for(&id.parse()?).await?, calls, "{id}");
    }
    assert_eq!(other.requests().await?, 3);
    assert!(worker.end().await?.success());
    let again = replay(&stack, Agent::Narrator, &["--story", "castle"]).await?;
    assert_eq!(again.code, Some(0), "{again:#?}");
    other.end().await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn events_wait_for_a_model_that_fails_and_one_at_a_time_tries_it() -> anyhow::Result<()> {
    let stack = Stack::start(Options::playing("rules: [{reply: {fault: error_503}}]")).await?;
    let one = ["--concurrency", "1"];
    let (worker, mut log) = stack.worker_with(Agent::Dialogue, &one)?;
    let story = stack.story("first", Policies::default()).await?;
    let first = stack.say(&story, "f", "What is there?").await?;
    let mut reader = stack.hear(&story).await?;
    assert!(matches!(reader.outcome_of(&first).await?, Outcome::Failed));
    for n in 1..20 {
        let story = stack.story(&format!("s{n}"), Policies::default()).await?;
        stack
            .say(&story, &format!("l{n}"), "What is there?")
            .await?;
    }
    log.line(OPENED).await?;
    // What was under way ends, and nothing else begins until the model may be tried.
    let left = eventually("what was begun ends", async || {
        let audit = stack.bus.audit().await?;
        Ok((audit.in_flight <= 18 && audit.failed > 1).then_some(audit.in_flight))
    })
    .await?;
    assert!(left >= 16, "{left} events are left");
    stack.plays("rules: []").await?;
    log.line(CLOSED).await?;
    let answered = eventually("all have their end", async || {
        let audit = stack.bus.audit().await?;
        Ok((audit.in_flight == 0).then_some(audit.answered))
    })
    .await?;
    assert!(answered >= 16, "{answered} events were answered");
    assert!(worker.end().await?.success());
    stack.audit(answered).await?;
    stack.end().await;
    Ok(())
}

/// Somebody says something in each of so many stories.
async fn lines(stack: &Stack, stories: usize) -> anyhow::Result<()> {
    for n in 0..stories {
        let story = stack.story(&format!("s{n}"), Policies::default()).await?;
        stack
            .say(&story, &format!("l{n}"), "What is there?")
            .await?;
    }
    Ok(())
}

/// Answered and failed, once all have their end.
async fn ends(stack: &Stack) -> anyhow::Result<(u64, u64)> {
    eventually("all have their end", async || {
        let audit = stack.bus.audit().await?;
        Ok((audit.in_flight == 0).then_some((audit.answered, audit.failed)))
    })
    .await
}

#[tokio::test]
async fn many_workers_leave_a_model_alone_together() -> anyhow::Result<()> {
    let stack = Stack::start(Options::playing("rules: [{reply: {fault: error_503}}]")).await?;
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(stack.worker_with(Agent::Dialogue, &["--concurrency", "2"])?);
    }
    lines(&stack, 40).await?;
    for (_, log) in &mut fleet {
        log.line(OPENED).await?;
    }
    stack.plays("rules: []").await?;
    let (answered, failed) = ends(&stack).await?;
    // Two in each hand as it opens, as many that are taken before a worker hears of it, and a try or two.
    assert!(failed <= 14, "{answered} answered, {failed} failed");
    for (worker, log) in fleet {
        assert!(worker.end().await?.success());
        assert_eq!(log.with(CLOSED).len(), 1, "each hears of it");
    }
    stack.audit(answered).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_refused_stops_nobody_who_has_another() -> anyhow::Result<()> {
    let mut stack = Stack::start(Options::default()).await?;
    stack.change_model_key("sk-right").await?;
    let with = |key| ["--concurrency", "1", "--llm-api-key", key];
    let (bad, mut told) = stack.worker_with(Agent::Dialogue, &with("sk-wrong"))?;
    let story = stack.story("first", Policies::default()).await?;
    let first = stack.say(&story, "f", "What is there?").await?;
    let mut reader = stack.hear(&story).await?;
    assert_eq!(reader.outcome_of(&first).await?, Outcome::Failed);
    told.line(OPENED).await?;
    let (good, log) = stack.worker_with(Agent::Dialogue, &with("sk-right"))?;
    lines(&stack, 20).await?;
    let (answered, failed) = ends(&stack).await?;
    // The first one, and what the other worker was given by the read that it was waiting for then.
    assert!(answered >= 19 && failed <= 2, "{answered}, {failed}");
    assert!(log.with(OPENED).is_empty());
    assert!(good.end().await?.success() && bad.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn events_that_wait_for_a_model_have_their_end_when_a_call_would_have() -> anyhow::Result<()>
{
    let stack = Stack::start(Options::playing("rules: [{reply: {fault: error_503}}]")).await?;
    let short = ["--concurrency", "1", "--llm-timeout", "3s"];
    let (worker, mut log) = stack.worker_with(Agent::Dialogue, &short)?;
    let mut readers = Vec::new();
    for n in 0..12 {
        let story = stack.story(&format!("s{n}"), Policies::default()).await?;
        let line = stack
            .say(&story, &format!("l{n}"), "What is there?")
            .await?;
        readers.push((line, stack.hear(&story).await?));
    }
    log.line(OPENED).await?;
    for (line, mut reader) in readers {
        assert_eq!(reader.outcome_of(&line).await?, Outcome::Failed);
    }
    assert!(worker.end().await?.success());
    stack.audit(0).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_retry_that_is_held_back_leaves_what_there_is_of_the_answer() -> anyhow::Result<()> {
    let cut = "rules: [{reply: {text: 'Dust falls. Then it rains', fault: cut(5)}}]";
    let stack = Stack::start(Options::playing(cut)).await?;
    // Of those who ask this model first, with no key.
    let retries = format!("r:{} mock ", stack.llm());
    let none = [
        "HSET",
        "sf:{0}:admission:health",
        &retries,
        "-100 9999999999999",
    ];
    stack.redis(&none).await?;
    let worker = stack.worker(Agent::Narrator)?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    let action = stack.act(&story, "a", "I look up.").await?;
    let end = reader.end_of(&action).await?;
    let Payload::Narration(told) = end.payload() else {
        anyhow::bail!("{end:?}");
    };
    assert_eq!(
        (told.text.as_str(), told.status),
        ("Dust falls.", Status::Truncated)
    );
    assert_eq!(stack.calls_for(&action).await?, 1);
    assert!(worker.end().await?.success());
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_fleet_without_rights_to_share_how_models_fare_asks_others_all_the_same()
-> anyhow::Result<()> {
    let stack = Stack::start(Options::playing("rules: [{reply: {fault: error_503}}]")).await?;
    let other = Model::start("", &[]).await?;
    stack
        .redis(&["SET", "sf:{0}:admission:health", "no hash"])
        .await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("models.yaml");
    let yaml = format!(
        "models: {{mock: {{then: [small]}}, small: {{at: '{}'}}}}",
        other.url()
    );
    std::fs::write(&file, yaml)?;
    let models = file.display().to_string();
    let (worker, mut log): (Process, _) =
        stack.worker_with(Agent::Dialogue, &["--models", &models])?;
    let story = stack.story("castle", Policies::default()).await?;
    let mut reader = stack.hear(&story).await?;
    for n in 0..7 {
        let line = stack
            .say(&story, &format!("l{n}"), "What is there?")
            .await?;
        assert_eq!(reader.outcome_of(&line).await?, Outcome::Answered);
    }
    log.line("how models fare is not shared").await?;
    assert_eq!(log.with("how models fare is not shared").len(), 1);
    assert!(worker.end().await?.success());
    other.end().await?;
    stack.audit(7).await?;
    stack.end().await;
    Ok(())
}
