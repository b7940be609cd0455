//! The end of a worker: finishes what is in flight within the limit, then gives the rest back without charging a try.

use std::time::Duration;

use anyhow::Context as _;
use bus::LeaseId;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Agent;
use crate::worker::Worker;

/// For giving entries back; if Redis does not take them in time, their leases pass by themselves.
const RELEASE: Duration = Duration::from_secs(3);

impl<A: Agent> Worker<A> {
    /// From the request to end until every turn has ended. `taking` asks for nothing more then, and what a read that was
    /// under way still gives is begun, unless there is no time left: then it goes back at once.
    pub(crate) async fn drain(
        &self,
        mut taking: JoinSet<anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        self.shutdown.drain.cancel();
        self.health.drain();
        let turns = async {
            let mut taken = Ok(());
            while let Some(ended) = taking.join_next().await {
                taken = taken.and(ended.context("a loop died").flatten());
            }
            self.turns.close();
            self.turns.wait().await;
            taken
        };
        let mut turns = std::pin::pin!(turns);
        tokio::select! {
            taken = &mut turns => taken,
            () = self.limit() => turns.await,
        }
    }

    /// Each turn that this stops names its own entry: a list of all in flight would come too late.
    async fn limit(&self) {
        tokio::select! {
            () = sleep(self.settings.drain) => {
                tracing::warn!("the drain limit has passed");
                self.shutdown.now.cancel();
            }
            () = self.shutdown.now.cancelled() => {}
        }
    }

    /// Entries that have ended in the meantime are left alone by the script.
    pub(crate) async fn release(&self, ids: &[LeaseId]) {
        if ids.is_empty() {
            return;
        }
        tracing::info!(events = ids.len(), "giving back what is unfinished");
        let release = self.bus.release(self.name, &self.consumer, ids);
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
