//! What is measured of a stream of chunks: those that were due within a time, how late each came to each reader, and how
//! many came in that time. A chunk's text says when it was due, so that whatever held it up is in its wait: its publisher
//! and Redis too, and what the runtime's clock rounds up, a millisecond at most.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::bench::stage::LOOK;

/// What four tokens have, about.
const FILL: &str = " and the tide turns";

/// When what is measured was due, in µs of this clock, and how late it came.
#[derive(Debug)]
pub(super) struct Window {
    clock: Instant,
    begin: AtomicU64,
    end: AtomicU64,
    /// Published of what was due within the window.
    told: AtomicU64,
    /// Came of it to readers within the window.
    reached: AtomicU64,
    waits: Mutex<Vec<Duration>>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            clock: Instant::now(),
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            told: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            waits: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    /// This moment by the window's clock.
    pub(super) fn at(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.clock);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn close(&self) {
        self.begin.store(u64::MAX, Relaxed);
        self.told.store(0, Relaxed);
        self.reached.store(0, Relaxed);
        self.lock().clear();
    }

    pub(super) fn open(&self) {
        self.end.store(u64::MAX, Relaxed);
        self.begin.store(self.now(), Relaxed);
    }

    pub(super) fn end(&self) {
        self.end.store(self.now(), Relaxed);
    }

    /// Something was published that was due `at`.
    pub(super) fn tell(&self, at: u64) {
        if self.has(at) {
            self.told.fetch_add(1, Relaxed);
        }
    }

    /// How much was published of what was due within the window.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// How many deliveries a second were due and made within the window, once it has ended.
    pub(super) fn reached(&self) -> f64 {
        let length = self
            .end
            .load(Relaxed)
            .saturating_sub(self.begin.load(Relaxed));
        self.reached.load(Relaxed) as f64 * 1e6 / length.max(1) as f64
    }

    /// What was due `at` came to a reader.
    pub(super) fn came(&self, at: u64, now: u64) {
        if self.has(at) {
            // What is made up for later is no rate that was reached.
            self.reached.fetch_add(self.has(now).into(), Relaxed);
            let wait = Duration::from_micros(now.saturating_sub(at));
            self.lock().push(wait);
        }
    }

    /// What came.
    pub(super) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.lock())
    }

    fn has(&self, at: u64) -> bool {
        (self.begin.load(Relaxed)..self.end.load(Relaxed)).contains(&at)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Once so many came.
    pub(super) async fn all(&self, expected: u64) -> Vec<Duration> {
        let mut looks = interval(LOOK);
        loop {
            looks.tick().await;
            let mut waits = self.lock();
            if waits.len() as u64 >= expected {
                return std::mem::take(&mut *waits);
            }
        }
    }
}

/// A chunk that is due `at`.
pub(super) fn stamped(at: u64) -> String {
    format!("@{at:013}{FILL}")
}

/// When each chunk of a text was due: one, unless they were merged.
pub(super) fn stamps(text: &str) -> impl Iterator<Item = u64> {
    let stamped = text.split('@').skip(1);
    stamped.filter_map(|chunk| chunk.get(..13)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_up_is_late_and_not_in_the_rate() {
        let window = Window::new();
        window.begin.store(1_000_000, Relaxed);
        window.end.store(3_000_000, Relaxed);
        for (due, now) in [
            (999_999, 1_000_000),
            (1_000_000, 1_000_400),
            (2_900_000, 3_100_000),
            (3_000_000, 3_000_100),
        ] {
            window.tell(due);
            window.came(due, now);
        }
        assert_eq!((window.told(), window.reached()), (2, 0.5));
        let waits = [400, 200_000].map(Duration::from_micros);
        assert_eq!(window.take(), waits);
    }

    #[test]
    fn merged_chunks_have_a_time_each() {
        let text = stamped(7) + &stamped(1_234_567);
        assert_eq!(stamps(&text).collect::<Vec<_>>(), [7, 1_234_567]);
        assert_eq!(stamps("the tide@12").count(), 0);
    }
}
