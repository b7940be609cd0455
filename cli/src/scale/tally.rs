//! What is counted while a load is played.

use super::fleet::MINUTE;
use super::stream::{Entry, EventAt};

const HOUR: u64 = 60 * MINUTE;

/// How it was when a minute was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    pub(crate) ready: u32,
    pub(crate) starting: u32,
    pub(crate) draining: u32,
    pub(crate) waiting: u64,
    pub(crate) in_flight: u64,
    pub(crate) parked: u64,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Tally {
    concurrency: u32,
    pub(crate) published: u64,
    /// In the order of their ends.
    pub(crate) answers: Vec<Entry>,
    /// When its turn came, of each event.
    admitted: Vec<u64>,
    /// How long it waited for a worker, of each hour in which turns came.
    waits: Vec<Vec<u32>>,
    /// From publication to answer.
    pub(crate) took: Vec<u32>,
    /// Deliveries that a drain gave back.
    pub(crate) released: u64,
    pub(crate) minutes: Vec<Minute>,
    /// Of the load's own length.
    length: usize,
    pub(crate) peak: u32,
    changes: u64,
    last_wanted: Option<u32>,
    /// Time of workers that are paid for, and of places that are taken, in ms.
    paid: u64,
    busy: u64,
    over: bool,
}

impl Tally {
    pub(super) fn new(length: usize, concurrency: u32) -> Self {
        Self {
            concurrency,
            published: 0,
            answers: Vec::new(),
            admitted: Vec::new(),
            waits: vec![Vec::new(); length.div_ceil(60) + 2],
            took: Vec::new(),
            released: 0,
            minutes: Vec::with_capacity(length),
            length,
            peak: 0,
            changes: 0,
            last_wanted: None,
            paid: 0,
            busy: 0,
            over: false,
        }
    }

    pub(super) fn published(&mut self) {
        self.published += 1;
        self.admitted.push(0);
    }

    pub(super) fn admitted(&mut self, event: EventAt, now: u64) {
        self.admitted[event as usize] = now;
    }

    /// By a worker: what was given back waits no second time here.
    pub(super) fn taken(&mut self, event: EventAt, now: u64) {
        let admitted = &mut self.admitted[event as usize];
        if *admitted == u64::MAX {
            return;
        }
        let hour = usize::try_from(*admitted / HOUR).unwrap_or(usize::MAX);
        let last = self.waits.len() - 1;
        self.waits[hour.min(last)].push(clamped(now - *admitted));
        *admitted = u64::MAX;
    }

    pub(super) fn answered(&mut self, entry: Entry, took: u64) {
        self.answers.push(entry);
        self.took.push(clamped(took));
    }

    pub(super) fn released(&mut self) {
        self.released += 1;
    }

    pub(super) fn minute(&mut self, minute: Minute) {
        if self.minutes.len() < self.length {
            self.minutes.push(minute);
        }
    }

    pub(super) fn wanted(&mut self, replicas: u32) {
        self.peak = self.peak.max(replicas);
        if self
            .last_wanted
            .replace(replicas)
            .is_some_and(|last| last != replicas)
        {
            self.changes += 1;
        }
    }

    pub(super) fn passed(&mut self, time: u64, workers: usize, in_flight: u64) {
        if !self.over {
            self.paid += time * u64::try_from(workers).unwrap_or(u64::MAX);
            self.busy += time * in_flight;
        }
    }

    /// What workers cost is of the load's time alone.
    pub(super) fn load_ends(&mut self) {
        self.over = true;
    }

    pub(crate) fn worker_hours(&self) -> f64 {
        self.paid as f64 / HOUR as f64
    }

    /// Paid for and not needed: workers that full ones would have been enough without.
    pub(crate) fn wasted_hours(&self) -> f64 {
        let needed = self.busy as f64 / f64::from(self.concurrency) / HOUR as f64;
        self.worker_hours() - needed
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// How long turns waited for a worker, sorted.
    pub(crate) fn waits(&self) -> Vec<u32> {
        sorted(self.waits.concat())
    }

    pub(crate) fn waits_of_hour(&self, hour: usize) -> Vec<u32> {
        sorted(self.waits[hour].clone())
    }
}

pub(crate) fn sorted(mut times: Vec<u32>) -> Vec<u32> {
    times.sort_unstable();
    times
}

/// Of sorted times: the one that so many of a hundred do not exceed (nearest rank).
pub(crate) fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

fn clamped(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let times: Vec<u32> = (1..=100).collect();
        assert_eq!(
            (percentile(&times, 50), percentile(&times, 99)),
            (Some(50), Some(99))
        );
        assert_eq!(percentile(&[7], 99), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
