//! Redis may be away, at the start and midway: nobody dies, nobody repeats themselves, and nothing is lost.

use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use bus::{Bus, Error};
use futures::future::{try_join, try_join_all};
use story::{Agent, EventId, Outcome, Policies, StoryId, outcome};
use system_tests::{Options, Output, Process, Signal, Stack, action, program};
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// How long Redis is away midway.
const AWAY: Duration = Duration::from_secs(10);
/// How long people go on writing before and after it.
const AROUND: Duration = Duration::from_secs(2);
/// How often each of them writes.
const EVERY: Duration = Duration::from_millis(200);
const STORIES: usize = 4;

/// How Redis goes away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// SIGTERM: it ends in order, and connections are refused.
    Ended,
    /// SIGKILL.
    Killed,
    /// SIGSTOP: connections are taken, and nothing is ever said.
    Frozen,
}

#[tokio::test]
async fn up_waits_for_redis_and_outlives_its_end() -> anyhow::Result<()> {
    up_through(Away::Ended).await
}

#[tokio::test]
async fn up_outlives_a_redis_that_says_nothing() -> anyhow::Result<()> {
    up_through(Away::Frozen).await
}

#[tokio::test]
async fn workers_wait_for_redis_and_outlive_its_death() -> anyhow::Result<()> {
    workers_through(Away::Killed).await
}

#[tokio::test]
async fn workers_outlive_a_redis_that_says_nothing() -> anyhow::Result<()> {
    workers_through(Away::Frozen).await
}

#[tokio::test]
async fn an_outage_takes_no_event_from_a_living_worker() -> anyhow::Result<()> {
    living_through(&[]).await
}

#[tokio::test]
async fn an_outage_takes_no_event_from_a_living_worker_of_a_full_fleet() -> anyhow::Result<()> {
    living_through(&["--concurrency", "2"]).await
}

/// Each time Redis is away for longer than the lease, so that every event looks abandoned when it is back.
async fn living_through(options: &[&str]) -> anyhow::Result<()> {
    let mut stack = Stack::start(Options {
        between_tokens: Duration::from_millis(150),
        ..Options::default()
    })
    .await?;
    let narrators = [0, 1].map(|_| stack.worker_with(Agent::Narrator, options));
    let narrators = narrators.into_iter().collect::<Result<Vec<_>, _>>()?;
    let _dialogue = stack.worker(Agent::Dialogue)?;
    let mut acted = Vec::new();
    for n in 0..STORIES {
        let id = format!("room-{n}");
        let story = stack.story(&id, Policies::default()).await?;
        let action = stack.act(&story, &format!("{id}-0"), "I go on.").await?;
        stack.asked(&action, 1).await?;
        acted.push((story, action));
    }
    for _ in 0..3 {
        stack.kill_redis().await?;
        sleep(AROUND).await;
        stack.resume_redis().await?;
        sleep(AROUND).await;
    }
    for (story, action) in &acted {
        let end = stack.hear(story).await?.end_of(action).await?;
        let answer = outcome(&end).map(|(end, _)| end);
        ensure!(answer == Some(Outcome::Answered), "{end:?}");
        assert_eq!(stack.calls_for(action).await?, 1, "it was paid for once");
    }
    for (_, log) in &narrators {
        assert_eq!(log.with("took over an event"), Vec::<String>::new());
    }
    stack.audit(acted.len() as u64).await?;
    stack.end().await;
    Ok(())
}

async fn up_through(away: Away) -> anyhow::Result<()> {
    let mut stack = stack_without_redis().await?;
    let data = tempfile::tempdir()?;
    let mut command = Command::new(program("storyfleet")?);
    command
        .args(["up", "--json", "--redis", &stack.redis_url()])
        .args(["--llm", stack.llm(), "--model", "mock", "--data"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut up = Process::start(&mut command)?;
    let (mut out, mut log) = (up.output()?, up.errors()?);
    log.line("waiting for it").await?;
    sleep(AROUND).await;
    stack.resume_redis().await?;
    out.line("\"ready\":true").await?;
    let said = log.with("");
    assert_eq!(said.len(), 1, "it says so once: {said:#?}");

    outlive(&mut stack, away).await?;
    says_so_once(&log, Agent::ALL.len())?;
    assert!(up.end().await?.success());
    stack.end().await;
    Ok(())
}

async fn workers_through(away: Away) -> anyhow::Result<()> {
    let mut stack = stack_without_redis().await?;
    let mut fleet = Vec::new();
    for agent in Agent::ALL.into_iter().chain([Agent::Narrator]) {
        fleet.push(stack.worker_with(agent, &[])?);
    }
    for (_, log) in &mut fleet {
        log.line("Redis does not answer").await?;
    }
    sleep(AROUND).await;
    stack.resume_redis().await?;
    for (_, log) in &mut fleet {
        log.line("taking events").await?;
        says_so_once(log, 1)?;
    }

    outlive(&mut stack, away).await?;
    for (worker, log) in fleet {
        says_so_once(&log, 2)?;
        assert!(worker.end().await?.success());
    }
    stack.end().await;
    Ok(())
}

/// A slow model, so that there are always answers under way.
async fn stack_without_redis() -> anyhow::Result<Stack> {
    let mut stack = Stack::start(Options {
        between_tokens: Duration::from_millis(10),
        ..Options::default()
    })
    .await?;
    stack.kill_redis().await?;
    Ok(stack)
}

fn says_so_once(log: &Output, times: usize) -> anyhow::Result<()> {
    let warnings = log.with(" WARN ");
    let told = log.with("Redis does not answer").len();
    ensure!(told == times, "{told} times, not {times}: {warnings:#?}");
    Ok(())
}

/// People write before, while and after Redis is away, each event until it is accepted. All of it is answered.
async fn outlive(stack: &mut Stack, away: Away) -> anyhow::Result<()> {
    let mut stories = Vec::new();
    for n in 0..STORIES {
        stories.push(
            stack
                .story(&format!("room-{n}"), Policies::default())
                .await?,
        );
    }
    let bus = stack.bus.clone();
    let writing = try_join_all(stories.iter().map(|story| write(&bus, story)));
    let (written, ()) = try_join(writing, take_away(stack, away)).await?;

    let mut answered = 0;
    for (story, actions) in stories.iter().zip(&written) {
        let mut reader = stack.hear(story).await?;
        for action in actions {
            let end = reader.end_of(action).await?;
            let answer = outcome(&end).map(|(end, _)| end);
            ensure!(
                answer == Some(Outcome::Answered),
                "{action} is not answered: {end:?}"
            );
            answered += 1;
        }
    }
    stack.audit(answered).await?;
    println!("{away:?} for {AWAY:?}: all {answered} actions answered");
    Ok(())
}

async fn write(bus: &Bus, story: &StoryId) -> anyhow::Result<Vec<EventId>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + AROUND + AWAY + AROUND;
    let mut written = Vec::new();
    while Instant::now() < end {
        ticks.tick().await;
        let id = format!("{story}-{}", written.len());
        let event = action(story, &id, "I go on.", None)?;
        // The bus paces the tries.
        while let Err(error) = bus.publish(&event).await {
            ensure!(matches!(error, Error::Unreachable(_)), "{error}");
        }
        written.push(event.id);
    }
    Ok(written)
}

async fn take_away(stack: &mut Stack, away: Away) -> anyhow::Result<()> {
    sleep(AROUND).await;
    match away {
        Away::Ended => stack.signal_redis(Signal::TERM)?,
        Away::Killed => stack.kill_redis().await?,
        Away::Frozen => stack.signal_redis(Signal::STOP)?,
    }
    sleep(AWAY).await;
    match away {
        Away::Ended | Away::Killed => stack.resume_redis().await,
        Away::Frozen => stack.signal_redis(Signal::CONT),
    }
}
