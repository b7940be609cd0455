//! What is measured of a stream of chunks: those that were published within a time, and how late each came to each reader.
//! A chunk's text says when it was published.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, interval};

use crate::bench::stage::LOOK;

/// What two tokens and what is around them have, about.
const FILL: &str = " and the tide turns";

/// When what is measured was published, in µs of this clock, and how late it came.
#[derive(Debug)]
pub(super) struct Window {
    clock: Instant,
    begin: AtomicU64,
    end: AtomicU64,
    /// Published within the window.
    told: AtomicU64,
    waits: Mutex<Vec<Duration>>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            clock: Instant::now(),
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            told: AtomicU64::new(0),
            waits: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn close(&self) {
        self.begin.store(u64::MAX, Relaxed);
        self.told.store(0, Relaxed);
        self.lock().clear();
    }

    pub(super) fn open(&self) {
        self.end.store(u64::MAX, Relaxed);
        self.begin.store(self.now(), Relaxed);
    }

    pub(super) fn end(&self) {
        self.end.store(self.now(), Relaxed);
    }

    /// Something is published that says so.
    pub(super) fn tell(&self, at: u64) {
        if self.has(at) {
            self.told.fetch_add(1, Relaxed);
        }
    }

    /// How much was published within the window.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// What was published `at` came to a reader.
    pub(super) fn came(&self, at: u64, now: u64) {
        if self.has(at) {
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

/// A chunk that is published now.
pub(super) fn stamped(at: u64) -> String {
    format!("@{at:013}{FILL}")
}

/// When each chunk of a text was published: one, unless they were merged.
pub(super) fn stamps(text: &str) -> impl Iterator<Item = u64> {
    let stamped = text.split('@').skip(1);
    stamped.filter_map(|chunk| chunk.get(..13)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_chunks_have_a_time_each() {
        let text = stamped(7) + &stamped(1_234_567);
        assert_eq!(stamps(&text).collect::<Vec<_>>(), [7, 1_234_567]);
        assert_eq!(stamps("the tide@12").count(), 0);
    }
}
