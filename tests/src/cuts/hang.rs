//! Whether a reader hangs: what another reader of the story has, one who is connected must have soon too. Their next
//! connection would give it to them, so that nothing would be missing in the end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// In which a connected reader has what others have, on a machine that is busy: a node finds out within 8 s that what it
/// hears of Redis with went silent.
const LATE: Duration = Duration::from_secs(15);

/// What one connection owes its reader.
#[derive(Debug, Default)]
pub(super) struct Debt {
    /// The last event that was there when they were found behind, and when that was.
    owed: Option<(u64, Duration)>,
    /// How long they were behind, at most.
    pub(super) longest: Duration,
}

impl Debt {
    /// A reader has all up to `has` while `there` is there, by a clock that stands still while Redis is away. Gives what
    /// they should have had long ago.
    pub(super) fn look(&mut self, has: u64, there: u64, now: Duration) -> Option<u64> {
        self.owed.take_if(|(seq, _)| *seq <= has);
        if there <= has {
            return None;
        }
        // Whoever is always one event behind, and never the same one, does not hang.
        let (seq, since) = *self.owed.get_or_insert((there, now));
        let behind = now.saturating_sub(since);
        self.longest = self.longest.max(behind);
        (behind > LATE).then_some(seq)
    }
}

/// When Redis came and went.
#[derive(Debug)]
pub(super) struct Tides(Mutex<Tide>);

#[derive(Debug)]
struct Tide {
    count: u64,
    /// Since when it is there.
    since: Option<Instant>,
    /// How long it was there before.
    before: Duration,
}

impl Tides {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Tide::new(Instant::now())))
    }

    /// It is about to go.
    pub(super) fn goes(&self) {
        self.lock().goes(Instant::now());
    }

    pub(super) fn is_back(&self) {
        self.lock().is_back(Instant::now());
    }

    /// How often it came or went.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// How long it was there in all: a clock that stands still while it is away.
    pub(super) fn there(&self) -> Duration {
        self.lock().there(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Tide> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tide {
    fn new(now: Instant) -> Self {
        Self {
            count: 0,
            since: Some(now),
            before: Duration::ZERO,
        }
    }

    fn goes(&mut self, now: Instant) {
        self.count += 1;
        self.before = self.there(now);
        self.since = None;
    }

    fn is_back(&mut self, now: Instant) {
        self.count += 1;
        self.since = Some(now);
    }

    fn there(&self, now: Instant) -> Duration {
        let since = self.since.map(|since| now - since);
        self.before + since.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn who_lacks_for_long_what_others_have_hangs() {
        let mut debt = Debt::default();
        assert_eq!(debt.look(4, 4, second(0)), None);
        assert_eq!(debt.look(4, 6, second(1)), None);
        assert_eq!(debt.look(4, 9, second(16)), None);
        assert_eq!(debt.look(5, 9, second(17)), Some(6));
        assert_eq!(debt.longest, second(16));
    }

    #[test]
    fn who_goes_on_does_not_hang_however_far_behind() {
        let mut debt = Debt::default();
        for at in 0..100 {
            assert_eq!(debt.look(at, at + 10, second(at)), None);
        }
        assert_eq!(debt.look(110, 110, second(200)), None);
        assert!(debt.longest <= LATE);
    }

    #[test]
    fn the_time_without_redis_does_not_count() {
        let begin = Instant::now();
        let (mut tide, mut debt) = (Tide::new(begin), Debt::default());
        let mut look = |tide: &Tide, at| debt.look(0, 1, tide.there(begin + second(at)));
        assert_eq!(look(&tide, 0), None);
        tide.goes(begin + second(10));
        assert_eq!(look(&tide, 70), None);
        tide.is_back(begin + second(70));
        assert_eq!(look(&tide, 75), None);
        assert_eq!(look(&tide, 76), Some(1));
        assert_eq!(tide.count, 2);
    }
}
