//! How many messages a socket may send.

use tokio::time::{Duration, Instant};

/// So many at once, and one more each `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub every: Duration,
}

impl Rate {
    /// So many in a second, and twice as many at once.
    ///
    /// # Panics
    /// When `times` is 0.
    #[must_use]
    pub fn a_second(times: u32) -> Self {
        Self {
            burst: times.saturating_mul(2),
            every: Duration::from_secs(1) / times,
        }
    }

    /// So many in a minute, and as many at once.
    ///
    /// # Panics
    /// When `times` is 0.
    #[must_use]
    pub fn a_minute(times: u32) -> Self {
        Self {
            burst: times,
            every: Duration::from_secs(60) / times,
        }
    }

    pub(super) fn times(self, times: u32) -> Self {
        Self {
            burst: self.burst.saturating_mul(times),
            every: self.every / times,
        }
    }
}

/// The generic cell rate algorithm: one time says all.
#[derive(Debug)]
pub(crate) struct Limit {
    rate: Rate,
    /// When the bucket is full again.
    full: Instant,
}

impl Limit {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full: now }
    }

    /// Takes one, or tells after what time there is one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full = self.full.max(now) + self.rate.every;
        let most = self.rate.every * self.rate.burst;
        match (full - now).checked_sub(most) {
            None | Some(Duration::ZERO) => {
                self.full = full;
                Ok(())
            }
            Some(after) => Err(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_each_interval() {
        let every = Duration::from_secs(1);
        let mut limit = Limit::new(Rate { burst: 3, every }, Instant::now());
        for _ in 0..3 {
            assert_eq!(limit.take(Instant::now()), Ok(()));
        }
        assert_eq!(limit.take(Instant::now()), Err(every));
        tokio::time::advance(every / 2).await;
        assert_eq!(limit.take(Instant::now()), Err(every / 2));
        tokio::time::advance(every / 2).await;
        assert_eq!(limit.take(Instant::now()), Ok(()));
        tokio::time::advance(every * 100).await;
        for _ in 0..3 {
            assert_eq!(limit.take(Instant::now()), Ok(()));
        }
        assert!(limit.take(Instant::now()).is_err());
    }
}
