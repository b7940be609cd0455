//! Takes work: new events, and every second what other workers left, entries whose lease has passed or that were let go. It
//! never asks for more than there are free slots, and for nothing while all models fail that it needs.
//!
//! One loop does both. A slot that is free when Redis is asked is free when it answers, and while all are taken neither
//! kind of work keeps the other from the next one.

use std::sync::Arc;
use std::time::Duration;

use bus::Delivery;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::Agent;
use crate::breaker::Taking;
use crate::retry::Backoff;
use crate::worker::Worker;

/// Between two looks for what was left, unless the lease is shorter.
const EVERY: Duration = Duration::from_secs(1);

/// Most entries taken over at once, so that other workers get some of a dead one's.
const AT_ONCE: usize = 16;

/// Takes until `drain`. A read under way is waited for: dropping it could leave what it delivered to its lease.
pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let mut reader = worker.bus.reader(worker.name, &worker.consumer);
    let mut backoff = Backoff::default();
    let mut look = Look::new(worker.settings.lease);
    let mut asker = worker.health.loop_asker();
    while let Some(free) = worker.slot(&drain).await {
        let free = match taking(&worker).await {
            Taking::All => free,
            Taking::One => 1,
            Taking::NoneUntil(at) => {
                // What shards that were slow to answer gave is nobody's until it is held here.
                let late = reader.rest().await;
                worker.begin(late).await;
                asker.rests();
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = drain.cancelled() => {}
                }
                continue;
            }
        };
        // What shards may still give that have not answered yet has its slots.
        let room = free.saturating_sub(reader.expects());
        let is_look = look.is_due() && room > 0;
        let asked = if is_look {
            look.go_on(&worker, room).await
        } else {
            reader.next_within(free, look.pause()).await
        };
        match asked {
            // A look that finds nothing writes nothing: a replica answers that too, and refuses the read that follows.
            Ok(deliveries) if is_look && deliveries.is_empty() => {}
            Ok(deliveries) => {
                // Of several masters one may be away while others answer.
                if !reader.misses_some() {
                    asker.answered();
                }
                backoff.reset();
                if let (Some(breaker), false) = (&worker.desk.breaker, deliveries.is_empty()) {
                    breaker.took();
                }
                worker.begin(deliveries).await;
            }
            Err(error) => {
                asker.failed(error);
                backoff.pause().await;
            }
        }
    }
    worker.begin(reader.rest().await).await;
}

async fn taking<A: Agent>(worker: &Worker<A>) -> Taking {
    match &worker.desk.breaker {
        Some(breaker) if worker.agent.needs_model() => {
            breaker.taking(worker.setup.llm.longest()).await
        }
        _ => Taking::All,
    }
}

/// A look for what was left, as many at a time as there is room for. While there is more of it nothing new is read: it is
/// older than anything in the backlog.
struct Look {
    every: Duration,
    next: Instant,
}

impl Look {
    fn new(lease: Duration) -> Self {
        Self {
            every: EVERY.min(lease / 2),
            next: Instant::now(),
        }
    }

    fn is_due(&self) -> bool {
        self.pause().is_zero()
    }

    async fn go_on<A: Agent>(
        &mut self,
        worker: &Worker<A>,
        free: usize,
    ) -> Result<Vec<Delivery>, bus::Error> {
        let (lease, count) = (worker.settings.lease, free.min(AT_ONCE));
        let (agent, consumer) = (worker.name, &worker.consumer);
        // Asked each time: Redis may have been away since the last time. What was let go waits for nothing: in a deploy all
        // workers that there are may have begun just now.
        let taken = if worker.health.redis_is_just_back(bus::grace(lease)) {
            worker.bus.take_let_go(agent, consumer, count).await
        } else {
            worker.bus.reclaim(agent, consumer, lease, count).await
        };
        let may_be_more = taken.as_ref().is_ok_and(|taken| taken.len() == count);
        if !may_be_more {
            self.over();
        }
        for delivery in taken.iter().flatten() {
            tracing::info!(lease = %delivery.lease, deliveries = delivery.deliveries, "took over an event");
        }
        taken
    }

    fn over(&mut self) {
        self.next = Instant::now() + self.every;
    }

    /// Until the next look.
    fn pause(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}
