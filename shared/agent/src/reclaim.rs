//! Takes over what other workers left: entries whose lease has passed. Also counts the backlog.

use std::sync::Arc;
use std::time::Duration;

use bus::ReclaimCursor;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Agent;
use crate::health::Loop;
use crate::worker::Worker;

const EVERY: Duration = Duration::from_secs(1);

/// Most entries taken over in one round; the rest is for the next round, or for another worker.
const AT_ONCE: usize = 16;

/// The cursor is carried from round to round: from the start each time, entries behind many young ones would never be
/// looked at.
pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut cursor = ReclaimCursor::default();
    let mut ticks = interval(EVERY.min(worker.settings.lease / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.cancelled() => return,
        }
        worker.health.round(Loop::Reclaim);
        if let Err(error) = round(&worker, &mut cursor).await {
            worker.health.redis_failed(error);
        }
    }
}

async fn round<A: Agent>(
    worker: &Arc<Worker<A>>,
    cursor: &mut ReclaimCursor,
) -> Result<(), bus::Error> {
    let backlog = worker.bus.backlog(worker.name).await?;
    worker
        .meters
        .backlog
        .set(i64::try_from(backlog).unwrap_or(i64::MAX));
    let count = worker.leases.free().min(AT_ONCE);
    if count == 0 {
        return Ok(());
    }
    let lease = worker.settings.lease;
    let taken = worker
        .bus
        .reclaim(worker.name, &worker.consumer, lease, cursor, count)
        .await?;
    for delivery in taken {
        tracing::info!(lease = %delivery.lease, deliveries = delivery.deliveries, "took over an event");
        worker.begin(delivery);
    }
    Ok(())
}
