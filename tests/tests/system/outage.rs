//! Redis may be away, at the start and midway: nobody dies, nobody repeats themselves, and nothing is lost.

use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use bus::Bus;
use futures::future::{try_join, try_join_all};
use story::{Agent, EventId, Outcome, Policies, StoryId};
use system_tests::{Options, Output, Process, Signal, Stack, action, lasting, program};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How long Redis is away midway.
const AWAY: Duration = Duration::from_secs(10);
/// How long it is away at a time when nobody may lose their events: past the lease.
const PAST_LEASE: Duration = Duration::from_secs(2);
/// How many events people write before and after it, all together.
const AROUND: usize = 40;
/// How often each of them writes.
const EVERY: Duration = Duration::from_millis(200);
const STORIES: usize = 4;
/// Tries to connect to a Redis that is not there: several of each worker.
const TRIES: usize = 20;

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
        lasting(PAST_LEASE).await;
        stack.resume_redis().await?;
        stack.renewed(Agent::Narrator).await?;
    }
    for (story, action) in &acted {
        let mut reader = stack.hear(story).await?;
        assert_eq!(reader.outcome_of(action).await?, Outcome::Answered);
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
    stack.tried(TRIES).await?;
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
    stack.tried(TRIES).await?;
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
    let (count, written) = watch::channel(0);
    let over = CancellationToken::new();
    let writing = try_join_all(
        stories
            .iter()
            .map(|story| write(&bus, story, &count, &over)),
    );
    let suffering = async {
        take_away(stack, away, written).await?;
        over.cancel();
        Ok(())
    };
    let (written, ()) = try_join(writing, suffering).await?;

    let mut answered = 0;
    for (story, actions) in stories.iter().zip(&written) {
        let mut reader = stack.hear(story).await?;
        for action in actions {
            let end = reader.outcome_of(action).await?;
            ensure!(end == Outcome::Answered, "{action} is not answered");
            answered += 1;
        }
    }
    stack.audit(answered).await?;
    println!("{away:?} for {AWAY:?}: all {answered} actions answered");
    Ok(())
}

/// Writes until it is over; `count` counts what all have written.
async fn write(
    bus: &Bus,
    story: &StoryId,
    count: &watch::Sender<usize>,
    over: &CancellationToken,
) -> anyhow::Result<Vec<EventId>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written = Vec::new();
    while !over.is_cancelled() {
        ticks.tick().await;
        let id = format!("{story}-{}", written.len());
        let event = action(story, &id, "I go on.", None)?;
        // The bus paces the tries.
        while let Err(error) = bus.publish(&event).await {
            ensure!(error.is_away(), "{error}");
        }
        written.push(event.id);
        count.send_modify(|count| *count += 1);
    }
    Ok(written)
}

async fn take_away(
    stack: &mut Stack,
    away: Away,
    mut written: watch::Receiver<usize>,
) -> anyhow::Result<()> {
    written.wait_for(|count| *count >= AROUND).await?;
    match away {
        Away::Ended => stack.signal_redis(Signal::TERM)?,
        Away::Killed => stack.kill_redis().await?,
        Away::Frozen => stack.signal_redis(Signal::STOP)?,
    }
    lasting(AWAY).await;
    match away {
        Away::Ended | Away::Killed => stack.resume_redis().await?,
        Away::Frozen => stack.signal_redis(Signal::CONT)?,
    }
    let until = *written.borrow() + AROUND;
    written.wait_for(|count| *count >= until).await?;
    Ok(())
}
