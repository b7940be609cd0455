//! What a worker does for the fleet besides answering: counts what waits, and forgets dead workers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;
use crate::{Agent, exit};

/// How often it is counted what waits, unless the lease is shorter.
const EVERY: Duration = Duration::from_secs(1);

/// In leases: 5 minutes with the usual one of 10 s.
const SILENT: u32 = 30;

pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut counts = interval(EVERY.min(worker.settings.lease / 2));
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut burials = interval(worker.settings.lease * SILENT / 5);
    burials.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asker, mut forgets) = (worker.health.asker(), Forgets(true));
    loop {
        tokio::select! {
            _ = counts.tick() => match count(&worker).await {
                Ok(()) => asker.answered(),
                Err(error) => asker.failed(error),
            },
            // The next try is far away and nobody waits for it: a worker that cannot forget is as ready as before.
            _ = burials.tick() => forgets.tell(forget_the_dead(&worker).await),
            () = drain.cancelled() => return,
        }
    }
}

/// Whether dead workers could be forgotten when it was last tried. Only a change is logged.
struct Forgets(bool);

impl Forgets {
    fn tell(&mut self, done: Result<(), bus::Error>) {
        match done {
            // That Redis is away the counting tells.
            Err(bus::Error::Unreachable(_)) => {}
            Err(error) if self.0 => {
                self.0 = false;
                let error = anyhow::Error::from(error);
                tracing::warn!(error = exit::line(&error), "dead workers are not forgotten");
            }
            Err(_) => {}
            Ok(()) if self.0 => {}
            Ok(()) => {
                self.0 = true;
                tracing::warn!("dead workers are forgotten again");
            }
        }
    }
}

/// Keeps the scaling signal true.
async fn count<A: Agent>(worker: &Worker<A>) -> Result<(), bus::Error> {
    let queues = worker.bus.queues().await?;
    worker.meters.queues(&queues);
    let counted = &worker.meters.unreplicated;
    counted.inc_by(worker.bus.unreplicated() - counted.get());
    Ok(())
}

/// Each life of a worker is a consumer of its own. One that holds nothing and was silent for so many leases is over;
/// were it not, it would be a consumer again with its next read.
async fn forget_the_dead<A: Agent>(worker: &Worker<A>) -> Result<(), bus::Error> {
    let silent = worker.settings.lease * SILENT;
    let forgotten = worker
        .bus
        .remove_idle_consumers(worker.name, silent)
        .await?;
    if !forgotten.is_empty() {
        tracing::info!(consumers = forgotten.len(), "forgot dead workers");
    }
    Ok(())
}
