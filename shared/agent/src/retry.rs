//! Pauses between tries of something that is away, paced as the bus paces its own.

use std::time::Duration;

use tokio::time::sleep;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        self.tries = self.tries.saturating_add(1);
        sleep(bus::backoff(self.tries, LONGEST)).await;
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}
