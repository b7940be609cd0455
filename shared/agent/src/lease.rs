//! The events in flight here, and the task that keeps their leases.
//!
//! An entry is in the table from its delivery to its end, so that it is renewed however long it waits for anything. A
//! lease that another worker took cancels its turn at once: what it would write is refused anyway, and each further
//! token is paid for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::LeaseId;
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
    held: Mutex<HashMap<LeaseId, CancellationToken>>,
    /// Left by turns that were stopped because the process ends.
    unfinished: Mutex<Vec<LeaseId>>,
    ended: Notify,
    gauge: IntGauge,
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

    pub(crate) fn hold(self: &Arc<Self>, id: LeaseId, end: &CancellationToken) -> Hold {
        let mut held = self.lock();
        if held.contains_key(&id) {
            return Hold::InFlight;
        }
        let stop = end.child_token();
        held.insert(id.clone(), stop.clone());
        self.gauge.inc();
        Hold::Slot(Held {
            id,
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
            if let Some(stop) = held.get(id) {
                stop.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, CancellationToken>> {
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
