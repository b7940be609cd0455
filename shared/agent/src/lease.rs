//! The events in flight here, and the task that keeps their leases.
//!
//! An entry is in the table from its delivery to its end, so that it is renewed however long it waits for anything. A
//! lease that another worker took cancels its turn at once: what it would write is refused anyway, and each further
//! token is paid for nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Delivery, LeaseId, Lost, Unrenewed, by_shard};
use futures::stream::{FuturesUnordered, StreamExt};
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
    /// Its commit or its burial was sent.
    ending: bool,
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
            ending: false,
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
            match self.free() {
                0 => ended.await,
                free => return free,
            }
        }
    }

    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.lock().len())
    }

    pub(crate) fn ids(&self) -> Vec<LeaseId> {
        self.lock().keys().cloned().collect()
    }

    /// Takes what [`Held::leave`] left.
    pub(crate) fn unfinished(&self) -> Vec<LeaseId> {
        std::mem::take(&mut *lock(&self.unfinished))
    }

    /// Stops the turn of an entry that another worker has; whether there was one to stop.
    fn taken(&self, id: &LeaseId) -> bool {
        self.stop_unless(id, |_| false)
    }

    /// Stops the turn of an entry that nobody has, unless the turn itself has just ended it: its commit's reply will tell.
    fn gone(&self, id: &LeaseId) -> bool {
        self.stop_unless(id, |entry| entry.ending)
    }

    fn stop_unless(&self, id: &LeaseId, spared: impl Fn(&Entry) -> bool) -> bool {
        let held = self.lock();
        let entry = held.get(id).filter(|entry| !spared(entry));
        entry.inspect(|entry| entry.stop.cancel()).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Entry>> {
        lock(&self.held)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held {
    /// To be told before a commit or a burial is sent: from now on that the entry is gone means that it was done.
    pub(crate) fn ending(&self) {
        if let Some(entry) = self.table.lock().get_mut(&self.id) {
            entry.ending = true;
        }
    }

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

/// Between two renewals, also of long leases: a loop that is silent for longer is taken for stuck.
const OFTEN: Duration = Duration::from_secs(10);

/// Renews every lease three times within its length or more often, until `end`.
pub(crate) async fn renew<A: Agent>(worker: Arc<Worker<A>>, end: CancellationToken) {
    let mut ticks = interval(OFTEN.min(worker.settings.lease / 3));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asker = worker.health.loop_asker();
    // Each shard by itself, and once at a time: one that hangs keeps no lease of another from being renewed.
    let (mut under_way, mut asked) = (FuturesUnordered::new(), BTreeSet::new());
    let mut failing = BTreeSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                worker.health.round(Loop::Renew);
                let ids = worker.leases.ids();
                let held = by_shard(&ids);
                failing.retain(|shard| held.contains_key(shard));
                if failing.is_empty() {
                    asker.rests();
                }
                for (shard, ids) in held {
                    if asked.insert(shard) {
                        let (worker, ids) = (&worker, ids.into_iter().cloned().collect::<Vec<_>>());
                        under_way.push(async move {
                            let (agent, consumer) = (worker.name, &worker.consumer);
                            (shard, worker.bus.renew(agent, consumer, &ids).await)
                        });
                    }
                }
            }
            Some((shard, told)) = under_way.next() => {
                asked.remove(&shard);
                let lost = match told {
                    Ok(lost) => {
                        failing.remove(&shard);
                        // Of what nobody serves nothing was asked.
                        if failing.is_empty() && !worker.bus.leaves_out(shard) {
                            asker.answered();
                        }
                        lost
                    }
                    Err(Unrenewed { lost, error }) => {
                        failing.insert(shard);
                        asker.failed(error);
                        lost
                    }
                };
                worker.lost(&lost);
            }
            () = end.cancelled() => return,
        }
    }
}

impl<A: Agent> Worker<A> {
    fn lost(&self, lost: &Lost) {
        let taken = lost.taken.iter().filter(|id| self.leases.taken(id));
        let gone = lost.gone.iter().filter(|id| self.leases.gone(id));
        for id in taken {
            self.meters.leases_lost.inc();
            tracing::warn!(lease = %id, "lease lost: another worker has the event");
        }
        for id in gone {
            self.meters.leases_lost.inc();
            tracing::warn!(lease = %id, "lease lost: another worker ended the event, or its group is gone");
        }
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
            work: Err(bus::Malformed {
                story: None,
                id: None,
                named: None,
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
    fn an_event_that_is_gone_stops_its_turn_unless_that_has_ended_it() {
        let (table, end) = table();
        let event = delivery(1, None);
        for ending in [false, true] {
            let Hold::Slot(held) = table.hold(&event, &end) else {
                panic!("the table is empty");
            };
            if ending {
                held.ending();
            }
            assert_eq!(table.gone(&event.lease), !ending);
            assert_eq!(held.stop.is_cancelled(), !ending);
            assert!(table.taken(&event.lease));
            assert!(held.stop.is_cancelled());
        }
        assert!(!table.gone(&event.lease) && !table.taken(&event.lease));
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
