//! How often something is done that many ask for: at most once a second, and then for all of them.

use std::time::Duration;

use tokio::time::Instant;

/// Between two times.
pub(crate) const PACE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    is_wanted: bool,
    /// Not before then.
    next: Option<Instant>,
}

impl Pace {
    /// Something that is to be done at once.
    pub(crate) fn wanted() -> Self {
        let mut pace = Self::default();
        pace.want();
        pace
    }

    pub(crate) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// When it is to be done, if it is.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.is_wanted
            .then(|| self.next.unwrap_or_else(Instant::now))
    }

    /// Whether it is to be done now. Then it counts as done: what is wanted from here on is another time.
    pub(crate) fn take(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.is_wanted && self.next.is_none_or(|next| next <= now);
        if is_due {
            *self = Self {
                is_wanted: false,
                next: Some(now + PACE),
            };
        }
        is_due
    }

    /// It failed, and is to be done again.
    pub(crate) fn again(&mut self, after: Duration) {
        *self = Self {
            is_wanted: true,
            next: Some(Instant::now() + after.max(PACE)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_answered_at_once_and_then_once_a_second() {
        let (mut pace, mut done) = (Pace::default(), Vec::new());
        let start = Instant::now();
        assert_eq!(pace.due(), None);
        // 300 in a second, and nothing after it.
        for _ in 0..300 {
            pace.want();
            if pace.take() {
                done.push(start.elapsed());
            }
            tokio::time::advance(Duration::from_micros(3_333)).await;
        }
        while let Some(due) = pace.due() {
            tokio::time::sleep_until(due).await;
            assert!(pace.take());
            done.push(start.elapsed());
        }
        assert_eq!(done[0], Duration::ZERO);
        assert_eq!(done.len(), 2, "{done:?}");
        assert!(done[1] >= PACE, "{done:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_and_not_before_its_time() {
        let mut pace = Pace::default();
        pace.want();
        assert!(pace.take());
        pace.again(PACE * 5);
        pace.want();
        assert!(!pace.take());
        tokio::time::sleep_until(pace.due().unwrap()).await;
        assert!(pace.take() && pace.due().is_none());
    }
}
