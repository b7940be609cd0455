//! Takes over what other workers left: entries whose lease has passed. Also counts the backlog and forgets dead workers.

use std::sync::Arc;
use std::time::Duration;

use bus::ReclaimCursor;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Agent;
use crate::health::Loop;
use crate::worker::Worker;

const EVERY: Duration = Duration::from_secs(1);

/// Most entries taken over at once, so that other workers get some of a dead one's.
const AT_ONCE: usize = 16;

/// In leases: 5 minutes with the usual one of 10 s.
const SILENT: u32 = 30;

/// While Redis was away nobody could renew: this and a third of the lease is what the living need to do so, since they
/// wait up to 2 s to connect anew. Whoever took their events at once would pay for them again, and charge an attempt.
const BACK: Duration = Duration::from_secs(3);

pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut ticks = interval(EVERY.min(worker.settings.lease / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut burials = interval(worker.settings.lease * SILENT / 5);
    burials.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        worker.health.round(Loop::Reclaim);
        let done = tokio::select! {
            _ = ticks.tick() => round(&worker, &drain).await,
            _ = burials.tick() => forget_the_dead(&worker).await,
            () = drain.cancelled() => return,
        };
        if let Err(error) = done {
            worker.health.redis_failed(error);
        }
    }
}

/// Looks at all that is pending, page by page: what a dead worker left may be behind much that is alive. What it left is
/// older than anything in the backlog, so while all slots are taken this waits for one like the reader does, in turn.
async fn round<A: Agent>(
    worker: &Arc<Worker<A>>,
    drain: &CancellationToken,
) -> Result<(), bus::Error> {
    let lease = worker.settings.lease;
    let mut cursor = ReclaimCursor::default();
    while let Some(free) = worker.slot(Loop::Reclaim, drain).await {
        // Asked each time: Redis may have been away while this waited for a slot.
        if worker.health.redis_is_just_back(lease / 3 + BACK) {
            break;
        }
        let taken = worker
            .bus
            .reclaim(
                worker.name,
                &worker.consumer,
                lease,
                &mut cursor,
                free.min(AT_ONCE),
            )
            .await?;
        for delivery in &taken {
            tracing::info!(lease = %delivery.lease, deliveries = delivery.deliveries, "took over an event");
        }
        worker.begin(taken).await;
        if cursor.is_over() {
            break;
        }
    }
    Ok(())
}

/// Keeps the scaling signal true, for as long as a look for abandoned events may wait for a slot.
pub(crate) async fn gauge<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut ticks = interval(EVERY.min(worker.settings.lease / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.cancelled() => return,
        }
        match worker.bus.backlog(worker.name).await {
            Ok(backlog) => {
                let backlog = i64::try_from(backlog).unwrap_or(i64::MAX);
                worker.meters.backlog.set(backlog);
                worker.health.redis_answered();
            }
            Err(error) => worker.health.redis_failed(error),
        }
    }
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
