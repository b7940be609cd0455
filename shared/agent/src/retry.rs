//! Pauses between tries of something that is away: doubling from 50 ms to 2 s, with jitter.

use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        let full = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        sleep(full.mul_f64(rand::random_range(0.5..1.0))).await;
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}
