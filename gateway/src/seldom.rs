//! For what happens again and again and is logged now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Once in a time.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            last: Mutex::default(),
        }
    }

    /// Whether it is time again. The first is.
    pub(crate) fn is_due(&self) -> bool {
        // Nothing panics while it is held.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= self.every);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_due_at_once_and_then_once_in_its_time() {
        let minute = Duration::from_secs(60);
        let seldom = Seldom::new(minute);
        assert!(seldom.is_due() && !seldom.is_due());
        advance(minute - Duration::from_millis(1)).await;
        assert!(!seldom.is_due());
        advance(Duration::from_millis(1)).await;
        assert!(seldom.is_due() && !seldom.is_due());
    }
}
