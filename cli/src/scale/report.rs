//! What a load that was played shows: a table of its hours, or one row for each signal.

use serde::Serialize;

use super::load::Load;
use super::tally::{Minute, Tally, percentile, sorted};

/// Of the widest bar.
const BAR: u32 = 30;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) signal: String,
    pub(crate) events: u64,
    pub(crate) answered: u64,
    /// An hour after the load's end.
    pub(crate) unanswered: u64,
    /// From the turn of an event until a worker took it.
    pub(crate) wait_p50_ms: Option<u32>,
    pub(crate) wait_p99_ms: Option<u32>,
    pub(crate) wait_max_ms: Option<u32>,
    /// From its publication, behind its story's turn too.
    pub(crate) answer_p50_ms: Option<u32>,
    pub(crate) answer_p99_ms: Option<u32>,
    pub(crate) worker_hours: f64,
    pub(crate) wasted_worker_hours: f64,
    pub(crate) peak_workers: u32,
    pub(crate) changes: u64,
    pub(crate) given_back: u64,
}

/// One hour of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Hour {
    pub(crate) hour: usize,
    pub(crate) events_per_s: f64,
    pub(crate) fewest_workers: u32,
    pub(crate) most_workers: u32,
    pub(crate) most_waiting: u64,
    pub(crate) wait_p99_ms: Option<u32>,
}

pub(crate) fn summary(signal: String, tally: &Tally) -> Summary {
    let (waits, took) = (tally.waits(), sorted(tally.took.clone()));
    let answered = tally.took.len() as u64;
    Summary {
        signal,
        events: tally.published,
        answered,
        unanswered: tally.published - answered,
        wait_p50_ms: percentile(&waits, 50),
        wait_p99_ms: percentile(&waits, 99),
        wait_max_ms: waits.last().copied(),
        answer_p50_ms: percentile(&took, 50),
        answer_p99_ms: percentile(&took, 99),
        worker_hours: rounded(tally.worker_hours()),
        wasted_worker_hours: rounded(tally.wasted_hours()),
        peak_workers: tally.peak,
        changes: tally.changes(),
        given_back: tally.released,
    }
}

pub(crate) fn hours(load: &Load, tally: &Tally) -> Vec<Hour> {
    let hours = load.0.chunks(60).zip(tally.minutes.chunks(60)).enumerate();
    hours
        .map(|(hour, (events, minutes))| {
            let count: u64 = events.iter().map(|events| u64::from(*events)).sum();
            let workers = || minutes.iter().map(Minute::workers);
            Hour {
                hour,
                events_per_s: rounded(count as f64 / (events.len() * 60) as f64),
                fewest_workers: workers().min().unwrap_or(0),
                most_workers: workers().max().unwrap_or(0),
                most_waiting: minutes.iter().map(|each| each.waiting).max().unwrap_or(0),
                wait_p99_ms: percentile(&tally.waits_of_hour(hour), 99),
            }
        })
        .collect()
}

/// The hours with a bar each: its dark part is what there always was, its light part what came and went.
pub(crate) fn chart(hours: &[Hour]) -> String {
    let most = hours
        .iter()
        .map(|hour| hour.most_workers)
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{:>5} {:>9} {:>9} {:>9} {:>9}  workers\n",
        "hour", "events/s", "workers", "waiting", "wait p99"
    );
    for hour in hours {
        let (few, many) = (hour.fewest_workers, hour.most_workers);
        let scale = |workers: u32| (workers * BAR / most.max(BAR)) as usize;
        let bar = "█".repeat(scale(few)) + &"░".repeat(scale(many) - scale(few));
        let workers = if few == many {
            few.to_string()
        } else {
            format!("{few}–{many}")
        };
        let line = format!(
            "{:>5} {:>9.1} {workers:>9} {:>9} {:>9}  {bar}",
            hour.hour,
            hour.events_per_s,
            hour.most_waiting,
            time(hour.wait_p99_ms)
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// One row each, best held beside each other.
pub(crate) fn table(summaries: &[Summary]) -> String {
    let mut text = format!(
        "{:<8} {:>9} {:>10} {:>9} {:>9} {:>9} {:>11} {:>7} {:>7} {:>5} {:>8}\n",
        "signal",
        "events",
        "unanswered",
        "wait p50",
        "wait p99",
        "longest",
        "answer p99",
        "hours",
        "wasted",
        "peak",
        "changes"
    );
    for each in summaries {
        text += &format!(
            "{:<8} {:>9} {:>10} {:>9} {:>9} {:>9} {:>11} {:>7.1} {:>7.1} {:>5} {:>8}\n",
            each.signal,
            each.events,
            each.unanswered,
            time(each.wait_p50_ms),
            time(each.wait_p99_ms),
            time(each.wait_max_ms),
            time(each.answer_p99_ms),
            each.worker_hours,
            each.wasted_worker_hours,
            each.peak_workers,
            each.changes
        );
    }
    text
}

fn time(ms: Option<u32>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms @ ..600_000) => format!("{:.1} s", f64::from(ms) / 1_000.0),
        Some(ms) => format!("{} min", ms / 60_000),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

impl Minute {
    /// Those that are paid for.
    fn workers(&self) -> u32 {
        self.ready + self.starting + self.draining
    }
}
