//! The end of a worker: finishes what is in flight within the limit, then gives the rest back without charging a try.

use std::time::Duration;

use bus::LeaseId;
use tokio::time::{sleep, timeout};

use crate::Agent;
use crate::worker::Worker;

/// For giving entries back; if Redis does not take them in time, their leases pass by themselves.
const RELEASE: Duration = Duration::from_secs(3);

impl<A: Agent> Worker<A> {
    /// Called when nothing begins turns any more, or is about to stop doing so.
    pub(crate) async fn drain(&self) {
        self.turns.close();
        tokio::select! {
            () = self.turns.wait() => {}
            () = sleep(self.settings.drain) => {
                tracing::warn!("the drain limit has passed");
                self.shutdown.now.cancel();
            }
            () = self.shutdown.now.cancelled() => {}
        }
        // Each stopped turn names its own entry: a list of all would come too late, for `now` stops them by itself.
        self.turns.wait().await;
        self.release(&self.leases.unfinished()).await;
    }

    /// Entries that have ended in the meantime are left alone by the script.
    pub(crate) async fn release(&self, ids: &[LeaseId]) {
        if ids.is_empty() {
            return;
        }
        tracing::info!(events = ids.len(), "giving back what is unfinished");
        let release = self
            .bus
            .release(self.name, &self.consumer, self.settings.lease, ids);
        let failed = match timeout(RELEASE, release).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "Redis took too long".to_owned(),
        };
        tracing::warn!(
            error = failed,
            "not given back: the events wait until their leases have passed"
        );
    }
}
