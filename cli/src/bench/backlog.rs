//! How fast a backlog is worked off, and what that costs.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt};
use story::{Event, LlmReport, Payload};
use tokio::time::{Instant, interval};

use super::load::Load;
use super::process::{Process, Usage, usage};
use super::stage::{LOOK, Model, Side, Stage};

/// How long nothing may happen before a measurement is given up.
const STUCK: Duration = Duration::from_secs(20);

/// Stories whose recordings are weighed.
const STORIES: usize = 20;
/// Recordings of each.
const FIRST: usize = 16;

/// A backlog.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backlog {
    pub(super) events: usize,
    pub(super) stories: usize,
    /// Events answered at once by one process.
    pub(super) concurrency: usize,
    pub(super) processes: usize,
}

/// How it was worked off. CPU in seconds per 1,000 events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worked {
    pub(super) events_per_s: f64,
    pub(super) cpu: f64,
    pub(super) redis_cpu: f64,
    pub(super) model_cpu: f64,
    pub(super) peak_mb: f64,
    /// Events in hand, on average.
    pub(super) in_flight: f64,
    /// Tokens of a prompt, on average.
    pub(super) prompt: f64,
    /// Bytes of a recording, on average; 0 where none was made.
    pub(super) recording: f64,
}

/// One moment of a measurement.
struct Look {
    at: Instant,
    ended: usize,
    process: Usage,
    redis: Usage,
    model: Usage,
}

struct Scene<'a> {
    stage: &'a Stage,
    model: &'a Model,
    load: &'a Load,
    processes: Vec<Process>,
}

/// Lets `side` answer a backlog that is there before it starts, and sees that every event was answered once.
pub(super) async fn work(
    stage: &mut Stage,
    side: Side,
    model: &Model,
    backlog: Backlog,
) -> anyhow::Result<Worked> {
    let load = stage.load(side, backlog.stories).await?;
    load.fill(backlog.events).await?;
    work_off(stage, side, model, &load, backlog).await
}

/// The same of a backlog that was filled.
pub(super) async fn work_off(
    stage: &Stage,
    side: Side,
    model: &Model,
    load: &Load,
    backlog: Backlog,
) -> anyhow::Result<Worked> {
    let processes = (0..backlog.processes)
        .map(|number| stage.start_one_of(number, side, model, backlog.concurrency));
    let processes = processes.collect::<anyhow::Result<_>>()?;
    let mut scene = Scene {
        stage,
        model,
        load,
        processes,
    };
    let (first, last, in_flight) = scene.watch(backlog).await?;
    for process in scene.processes {
        process.end().await?;
    }
    let prompt = check(&load.bare.logged(&load.stories).await?, backlog.events)?;
    let worked = Worked::between(&first, &last, in_flight, prompt)?;
    Ok(Worked {
        recording: recorded(load).await?,
        ..worked
    })
}

impl Worked {
    /// # Errors
    /// When nothing ended between the looks: there is nothing to divide by.
    fn between(first: &Look, last: &Look, in_flight: f64, prompt: f64) -> anyhow::Result<Self> {
        ensure!(
            last.ended > first.ended,
            "all {} events ended between two looks: too few to be measured",
            last.ended
        );
        let ended = (last.ended - first.ended) as f64;
        let cpu = |used: fn(&Look) -> Usage| {
            (used(last).cpu.saturating_sub(used(first).cpu)).as_secs_f64() / ended * 1000.0
        };
        Ok(Self {
            events_per_s: ended / (last.at - first.at).as_secs_f64(),
            cpu: cpu(|look| look.process),
            redis_cpu: cpu(|look| look.redis),
            model_cpu: cpu(|look| look.model),
            peak_mb: last.process.peak_mb,
            in_flight,
            prompt,
            recording: 0.0,
        })
    }
}

/// Of the stories' first recordings, which are of short histories, and of the next.
async fn recorded(load: &Load) -> anyhow::Result<f64> {
    let (mut bytes, mut count) = (0, 0);
    for story in load.stories.iter().take(STORIES) {
        let mut recordings = pin!(load.bus.all_recordings(story).take(FIRST));
        while let Some(kept) = recordings.try_next().await? {
            bytes += kept.bytes.len();
            count += 1;
        }
    }
    Ok(bytes as f64 / count.max(1) as f64)
}

impl Scene<'_> {
    /// From when every slot has ended an event, so that the first wave does not count, to the last; and how many
    /// were in hand meanwhile.
    async fn watch(&mut self, backlog: Backlog) -> anyhow::Result<(Look, Look, f64)> {
        let events = backlog.events;
        let (mut looks, mut first) = (interval(LOOK), None);
        let (mut in_flight, mut seen) = (Vec::new(), (0, Instant::now()));
        loop {
            looks.tick().await;
            for process in &mut self.processes {
                process.must_live()?;
            }
            let Some(progress) = self.load.bare.progress().await? else {
                continue;
            };
            if progress.ended > seen.0 {
                seen = (progress.ended, Instant::now());
            }
            ensure!(
                seen.1.elapsed() < STUCK,
                "{} of {events} events ended, and then none for {STUCK:?}",
                seen.0
            );
            if progress.ended < backlog.concurrency * backlog.processes {
                continue;
            }
            in_flight.push(progress.in_flight as f64);
            if first.is_none() {
                first = Some(self.look(progress.ended)?);
            }
            if progress.ended >= events {
                let mean = in_flight.iter().sum::<f64>() / in_flight.len() as f64;
                let last = self.look(progress.ended)?;
                return Ok((
                    first.unwrap_or_else(|| unreachable!("set above")),
                    last,
                    mean,
                ));
            }
        }
    }

    fn look(&self, ended: usize) -> anyhow::Result<Look> {
        let redis = self.stage.redis.pid();
        Ok(Look {
            at: Instant::now(),
            ended,
            process: together(&self.processes)?,
            redis: usage(redis.ok_or_else(|| anyhow::anyhow!("the Redis server ended"))?)?,
            model: self.model.process.usage()?,
        })
    }
}

/// All of them as one.
fn together(processes: &[Process]) -> anyhow::Result<Usage> {
    let mut all = Usage {
        cpu: Duration::ZERO,
        rss_mb: 0.0,
        peak_mb: 0.0,
    };
    for process in processes {
        let used = process.usage()?;
        all.cpu += used.cpu;
        all.rss_mb += used.rss_mb;
        all.peak_mb += used.peak_mb;
    }
    Ok(all)
}

/// That each event has one answer; gives the mean length of their prompts.
fn check(log: &[Event], events: usize) -> anyhow::Result<f64> {
    let answers = log.iter().filter_map(|event| Some((event, report(event)?)));
    let (mut answered, mut tokens, mut count) = (HashSet::new(), 0, 0);
    for (event, report) in answers {
        answered.extend(&event.cause);
        tokens += report.tokens_in;
        count += 1;
    }
    ensure!(
        answered.len() == events && count == events,
        "{events} events were sent; {} have an answer, and there are {count} answers",
        answered.len()
    );
    Ok(tokens as f64 / count as f64)
}

fn report(event: &Event) -> Option<&LlmReport> {
    match event.payload() {
        Payload::Dialogue(said) => said.llm.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, ended: usize) -> Look {
        let used = Usage {
            cpu: Duration::ZERO,
            rss_mb: 1.0,
            peak_mb: 1.0,
        };
        Look {
            at,
            ended,
            process: used,
            redis: used,
            model: used,
        }
    }

    #[test]
    fn what_ended_between_two_looks_is_no_figure() {
        let first = look(Instant::now(), 64);
        let second = Duration::from_secs(1);
        let between = |ended| {
            let last = look(first.at + second, ended);
            Worked::between(&first, &last, 1.0, 1.0)
        };
        assert!(between(64).is_err());
        assert_eq!(between(164).unwrap().events_per_s, 100.0);
    }
}
