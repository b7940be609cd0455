//! A worker that is asked to end: it finishes what it has begun, or hands it on, and no attempt is charged.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::{try_join, try_join_all};
use story::{Agent, EventId, Outcome, Payload, Policies, StoryId};
use system_tests::{Options, Output, Signal, Stack};
use tokio::time::Instant;

const STORIES: usize = 8;
const ROUNDS: usize = 3;
const DRAIN: Duration = Duration::from_secs(20);

/// What an action waited for.
#[derive(Debug, Clone, Copy)]
struct Answered {
    /// From its publication to its answer.
    whole: Duration,
    /// The model's part of it.
    call: Duration,
}

impl Answered {
    fn delay(self) -> Duration {
        self.whole.saturating_sub(self.call)
    }
}

#[tokio::test]
async fn a_drain_under_load_delays_nothing_and_charges_nothing() -> anyhow::Result<()> {
    let stack = Stack::start(Options {
        between_tokens: Duration::from_millis(15),
        ..Options::default()
    })
    .await?;
    let stories = stories(&stack).await?;
    let drain = format!("{}s", DRAIN.as_secs());
    let (old, _log) = stack.worker_with(Agent::Narrator, &["--drain", &drain])?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    let players = try_join_all(stories.iter().map(|story| play(&stack, story)));
    let deploy = async {
        for story in &stories {
            stack.asked(&first(story)?, 1).await?;
        }
        let (new, mut log) = stack.worker_with(Agent::Narrator, &[])?;
        log.line("taking events").await?;
        let started = Instant::now();
        let ended = old.end().await?;
        ensure!(ended.success(), "the drained worker ended with {ended}");
        Ok((started.elapsed(), new, log))
    };
    let (played, (drained, _new, log)) = try_join(players, deploy).await?;

    let answers = played.concat();
    let slowest = answers.iter().max_by_key(|answer| answer.delay());
    let slowest = slowest.context("there are answers")?;
    let charged = charged(&log)?;
    println!(
        "drained in {drained:.1?} (limit {DRAIN:?}); {} answers, the most delayed by {:.0?} with a call of {:.1?}; \
         attempts charged: {charged}",
        answers.len(),
        slowest.delay(),
        slowest.call,
    );
    assert!(drained < DRAIN, "{drained:?}");
    assert_eq!(charged, 0);
    for answer in &answers {
        assert!(answer.delay() <= answer.call, "{answer:?}");
    }
    stack.audit(answers.len() as u64).await?;
    stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_second_signal_hands_on_what_is_unfinished() -> anyhow::Result<()> {
    handed_on("60s", true).await
}

#[tokio::test]
async fn a_drain_past_its_limit_hands_on_what_is_unfinished() -> anyhow::Result<()> {
    handed_on("1s", false).await
}

/// The first call for each event never ends. The lease is so long that nobody else could have the events by then.
async fn handed_on(drain: &str, second_signal: bool) -> anyhow::Result<()> {
    let scenario =
        "rules:\n- when: { agent: narrator, attempt: 1 }\n  reply: { fault: no_headers }\n";
    let stack = Stack::start(Options::playing(scenario)).await?;
    let stories = stories(&stack).await?;
    let lease = ["--lease", "45s"];
    let (old, mut says) =
        stack.worker_with(Agent::Narrator, &[lease, ["--drain", drain]].concat())?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    for story in &stories {
        let action = stack.act(story, first(story)?.as_str(), "I go on.").await?;
        stack.asked(&action, 1).await?;
    }
    let (_new, log) = stack.worker_with(Agent::Narrator, &lease)?;
    let started = Instant::now();
    if second_signal {
        old.signal(Signal::TERM)?;
        says.line("asked to end").await?;
    }
    let ended = old.end().await?;
    assert!(ended.success(), "the worker ended with {ended}");
    for story in &stories {
        let mut reader = stack.hear(story).await?;
        assert_eq!(reader.outcome_of(&first(story)?).await?, Outcome::Answered);
    }
    let (took, over, charged) = (started.elapsed(), takeovers(&log)?.len(), charged(&log)?);
    println!("{over} events handed on and answered in {took:.1?}; attempts charged: {charged}");
    assert_eq!((over, charged), (STORIES, 0));
    // Nobody could have taken over by then what was not handed on.
    assert!(took < Duration::from_secs(28), "{took:?}");
    stack.audit(STORIES as u64).await?;
    stack.end().await;
    Ok(())
}

async fn stories(stack: &Stack) -> anyhow::Result<Vec<StoryId>> {
    let mut stories = Vec::new();
    for n in 0..STORIES {
        let id = format!("room-{n}");
        stories.push(stack.story(&id, Policies::default()).await?);
    }
    Ok(stories)
}

fn first(story: &StoryId) -> anyhow::Result<EventId> {
    Ok(format!("{story}-0").parse()?)
}

/// Acts, waits for the answer, and acts again.
async fn play(stack: &Stack, story: &StoryId) -> anyhow::Result<Vec<Answered>> {
    let mut reader = stack.hear(story).await?;
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        let started = Instant::now();
        let action = stack
            .act(story, &format!("{story}-{round}"), "I go on.")
            .await?;
        let end = reader.end_of(&action).await?;
        let Payload::Narration(narration) = end.payload() else {
            anyhow::bail!("{action} is not answered: {end:?}");
        };
        let report = narration.llm.as_ref().context("a report of the call")?;
        answers.push(Answered {
            whole: started.elapsed(),
            call: Duration::from_millis(report.ms),
        });
    }
    Ok(answers)
}

/// What a worker took over from others, as the number of the delivery.
fn takeovers(log: &Output) -> anyhow::Result<Vec<u32>> {
    let lines = log.with("took over an event");
    let deliveries = lines.iter().map(|line| {
        let number = line.rsplit("deliveries=").next();
        number
            .and_then(|number| number.trim().parse().ok())
            .with_context(|| line.clone())
    });
    deliveries.collect()
}

/// Deliveries before the one that counts: released events begin at 1 again.
fn charged(log: &Output) -> anyhow::Result<u32> {
    Ok(takeovers(log)?
        .iter()
        .map(|deliveries| deliveries - 1)
        .sum())
}
