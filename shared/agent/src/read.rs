//! The reader: asks for as many new events as there are free slots, and never for one more.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::Agent;
use crate::health::Loop;
use crate::retry::Backoff;
use crate::worker::Worker;

/// Reads until `drain`. A read under way is waited for: dropping it could leave what it delivered to its lease.
pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut reader = worker.bus.reader(worker.name, &worker.consumer);
    let mut backoff = Backoff::default();
    while let Some(free) = slot(&worker, &drain).await {
        worker.health.round(Loop::Read);
        match reader.next(free).await {
            Ok(deliveries) if drain.is_cancelled() => {
                let ids: Vec<_> = deliveries.into_iter().map(|each| each.lease).collect();
                worker.release(&ids).await;
            }
            Ok(deliveries) => {
                worker.health.redis_answered();
                backoff.reset();
                worker.begin(deliveries).await;
            }
            Err(error) => {
                worker.health.redis_failed(error);
                backoff.pause().await;
            }
        }
    }
}

/// The free slots, at least one; `None` at a drain. While all are taken the loop still goes round.
async fn slot<A: Agent>(worker: &Worker<A>, drain: &CancellationToken) -> Option<usize> {
    let mut rounds = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled() => return None,
            free = worker.leases.slot() => return Some(free),
            _ = rounds.tick() => worker.health.round(Loop::Read),
        }
    }
}
