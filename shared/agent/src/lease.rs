//! The events in flight here, and the task that keeps their leases.
//!
//! An entry is in the table from its delivery to its end, so that it is renewed however long it waits for anything. A
//! lease that another worker took cancels its turn at once: what it would write is refused anyway, and each further
//! token is paid for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Delivery, LeaseId};
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Agent;
use crate::health::Loop;
use crate::worker::Worker;

#[derive(Debug)]
pub(crate) struct Leases {
    capacity: usize,
    held: Mutex<HashMap<LeaseId, Entry>>,
    /// Left by turns that were stopped because the process ends.
    unfinished: Mutex<Vec<LeaseId>>,
    ended: Notify,
    gauge: IntGauge,
}

#[derive(Debug)]
struct Entry {
    stop: CancellationToken,
    /// How often it had been delivered when it was last known to be ours alone.
    deliveries: u32,
}

/// An entry's place in the table; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Held {
    id: LeaseId,
    table: Arc<Leases>,
    /// The turn must stop: its lease is lost, or the process ends.
    pub(crate) stop: CancellationToken,
}

/// What becomes of an entry that was delivered.
#[derive(Debug)]
pub(crate) enum Hold {
    Slot(Held),
    /// It is in flight here already: it was reclaimed from ourselves after Redis had been away.
    InFlight,
    /// It is in flight here, and another worker had it in between: readers may have seen another draft of its response,
    /// which the turn here would go on with. That turn is stopped.
    HadElsewhere,
}

impl Leases {
    pub(crate) fn new(capacity: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            held: Mutex::default(),
            unfinished: Mutex::default(),
            ended: Notify::new(),
            gauge,
        })
    }

    pub(crate) fn hold(self: &Arc<Self>, delivery: &Delivery, end: &CancellationToken) -> Hold {
        let mut held = self.lock();
        let Delivery {
            lease, deliveries, ..
        } = delivery;
        if let Some(entry) = held.get_mut(lease) {
            // An owner in between was charged for it, or released it and had it last.
            let from_here = delivery.taken_from.as_ref() == Some(&delivery.consumer);
            if from_here && *deliveries == entry.deliveries + 1 {
                entry.deliveries = *deliveries;
                return Hold::InFlight;
            }
            entry.stop.cancel();
            return Hold::HadElsewhere;
        }
        let stop = end.child_token();
        let entry = Entry {
            stop: stop.clone(),
            deliveries: *deliveries,
        };
        held.insert(lease.clone(), entry);
        self.gauge.inc();
        Hold::Slot(Held {
            id: lease.clone(),
            table: Arc::clone(self),
            stop,
        })
    }

    /// Waits until there are free slots, and gives how many. Only one loop may ask: it alone fills them.
    pub(crate) async fn slot(&self) -> usize {
        loop {
            let ended = self.ended.notified();
            match self.capacity.saturating_sub(self.lock().len()) {
                0 => ended.await,
                free => return free,
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.lock().keys().cloned().collect()
    }

    /// Takes what [`Held::leave`] left.
    pub(crate) fn unfinished(&self) -> Vec<LeaseId> {
        std::mem::take(&mut *lock(&self.unfinished))
    }

    /// Stops the turns of leases that are not ours any more.
    fn lose(&self, lost: &[LeaseId]) {
        let held = self.lock();
        for id in lost {
            if let Some(entry) = held.get(id) {
                entry.stop.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Entry>> {
        lock(&self.held)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// The entry is to be released: its turn was stopped by the end of the process.
    pub(crate) fn leave(self) {
        lock(&self.table.unfinished).push(self.id.clone());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
        self.table.gauge.dec();
        self.table.ended.notify_one();
    }
}

/// Renews every lease three times within its length, until `end`.
pub(crate) async fn renew<A: Agent>(worker: Arc<Worker<A>>, end: CancellationToken) {
    let mut ticks = interval(worker.settings.lease / 3);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = end.cancelled() => return,
        }
        worker.health.round(Loop::Renew);
        let ids = worker.leases.ids();
        if ids.is_empty() {
            continue;
        }
        match worker.bus.renew(worker.name, &worker.consumer, &ids).await {
            Ok(lost) => {
                worker.health.redis_answered();
                worker.lost(&lost);
            }
            Err(error) => worker.health.redis_failed(error),
        }
    }
}

impl<A: Agent> Worker<A> {
    /// A turn that has just been committed is reported lost too; it is in the table no more.
    fn lost(&self, ids: &[LeaseId]) {
        let in_flight = self.leases.ids();
        let lost: Vec<LeaseId> = ids
            .iter()
            .filter(|id| in_flight.contains(id))
            .cloned()
            .collect();
        for id in &lost {
            self.meters.leases_lost.inc();
            tracing::warn!(lease = %id, "lease lost: another worker has the event");
        }
        self.leases.lose(&lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "here";

    fn delivery(deliveries: u32, taken_from: Option<&str>) -> Delivery {
        Delivery {
            agent: story::Agent::Narrator,
            consumer: HERE.to_owned(),
            lease: LeaseId {
                shard: 0,
                entry: "1-0".to_owned(),
            },
            deliveries,
            taken_from: taken_from.map(str::to_owned),
            redriven: false,
            work: Err(bus::Malformed {
                story: None,
                id: None,
                class: "undecodable",
                reason: String::new(),
            }),
        }
    }

    fn table() -> (Arc<Leases>, CancellationToken) {
        let gauge = IntGauge::new("in_flight", "test").unwrap();
        (Leases::new(4, gauge), CancellationToken::new())
    }

    #[test]
    fn a_turn_goes_on_while_nobody_else_had_its_event() {
        let (table, end) = table();
        let Hold::Slot(held) = table.hold(&delivery(1, None), &end) else {
            panic!("the table is empty");
        };
        for deliveries in 2..5 {
            let again = table.hold(&delivery(deliveries, Some(HERE)), &end);
            assert!(matches!(again, Hold::InFlight));
        }
        assert!(!held.stop.is_cancelled());
    }

    #[test]
    fn a_turn_whose_event_another_worker_had_is_stopped() {
        // It died of it or still works on it; it released it; it had it before a reclaim whose reply was lost.
        for (deliveries, from) in [(3, "there"), (2, "there"), (4, HERE)] {
            let (table, end) = table();
            let Hold::Slot(held) = table.hold(&delivery(1, None), &end) else {
                panic!("the table is empty");
            };
            let again = table.hold(&delivery(deliveries, Some(from)), &end);
            assert!(matches!(again, Hold::HadElsewhere));
            assert!(held.stop.is_cancelled());
            drop(held);
            let later = table.hold(&delivery(deliveries, Some(HERE)), &end);
            assert!(matches!(later, Hold::Slot(_)));
        }
    }
}
