//! Pauses between tries of something that is away, paced as the bus paces its own.

use tokio::time::sleep;

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(crate) async fn pause(&mut self) {
        self.tries = self.tries.saturating_add(1);
        sleep(bus::backoff(self.tries)).await;
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}
