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
    while let Some(free) = worker.slot(Loop::Read, &drain).await {
        match reader.next(free).await {
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
