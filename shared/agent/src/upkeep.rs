//! What a worker does for the fleet besides answering: counts what waits, tells what too few replicas have, looks for slots
//! that nobody serves, and forgets dead workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::worker::Worker;
use crate::{Agent, exit};

/// How often is told what is counted here, and is counted what waits for our own agent, unless the lease is shorter.
const EVERY: Duration = Duration::from_secs(1);

/// In counts, about: how often it is counted what waits for the other agents. Their own workers tell it sooner, and it is
/// needed where there are none.
const OTHERS: u32 = 15;

/// In leases: 5 minutes with the usual one of 10 s.
const SILENT: u32 = 30;

pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) {
    let every = EVERY.min(worker.settings.lease / 2);
    let mut counts = interval(every);
    counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut burials = interval(worker.settings.lease * SILENT / 5);
    burials.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asker, mut forgets) = (worker.health.asker(), Forgets(true));
    let mut counter = Counter::new(every);
    loop {
        tokio::select! {
            _ = counts.tick() => match counter.count(&worker).await {
                Ok(()) => asker.answered(),
                Err(error) => {
                    counter.lost(&worker);
                    asker.failed(error);
                }
            },
            // The next try is far away and nobody waits for it: a worker that cannot forget is as ready as before.
            _ = burials.tick() => forgets.tell(forget_the_dead(&worker).await),
            () = drain.cancelled() => break,
        }
    }
    counter.lost(&worker);
}

/// Looks whether somebody serves again what nobody did, until `end`: also while the worker drains, since it still renews.
pub(crate) async fn slots<A: Agent>(worker: Arc<Worker<A>>, end: CancellationToken) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = end.cancelled() => return,
        }
        if worker.bus.unserved().is_some() {
            worker.bus.look_for_slots().await;
        }
    }
}

/// Tells how much too few replicas have, until `end`: what ends while the worker drains counts too.
pub(crate) async fn unreplicated<A: Agent>(worker: Arc<Worker<A>>, end: CancellationToken) {
    let mut tells = interval(EVERY);
    // The counter may be that of several workers.
    let mut told = 0;
    loop {
        let is_end = tokio::select! {
            _ = tells.tick() => false,
            () = end.cancelled() => true,
        };
        let writes = worker.bus.unreplicated();
        worker.meters.unreplicated.inc_by(writes - told);
        told = writes;
        if is_end {
            return;
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
struct Counter {
    every: Duration,
    /// When the other agents are counted again.
    others: Instant,
    /// Keys that could not be read when they were last looked at. Only a change is logged.
    unreadable: BTreeMap<story::Agent, Vec<String>>,
}

impl Counter {
    fn new(every: Duration) -> Self {
        Self {
            every,
            others: Instant::now(),
            unreadable: BTreeMap::new(),
        }
    }

    async fn count<A: Agent>(&mut self, worker: &Worker<A>) -> Result<(), bus::Error> {
        let is_time = self.others <= Instant::now();
        let queues = if is_time {
            worker.bus.queues(&story::Agent::ALL).await?
        } else {
            worker.bus.queues(&[worker.name]).await?
        };
        if is_time {
            // Workers that began together do not ask together for ever.
            let counts = f64::from(OTHERS) * rand::random_range(0.8..=1.2);
            self.others = Instant::now() + self.every.mul_f64(counts);
        }
        worker.meters.queues(&queues);
        for (agent, queue) in queues {
            self.tell(agent, queue.unreadable);
        }
        Ok(())
    }

    /// Nobody counts here any more, or Redis does not answer: numbers that stay would be taken for what is.
    fn lost<A: Agent>(&mut self, worker: &Worker<A>) {
        worker.meters.forget_queues();
        self.others = Instant::now();
    }

    fn tell(&mut self, agent: story::Agent, unreadable: Vec<String>) {
        let told = self.unreadable.entry(agent).or_default();
        if *told == unreadable {
            return;
        }
        let (agent, keys) = (agent.as_str(), unreadable.join(" "));
        if unreadable.is_empty() {
            tracing::info!(agent, "all that waits can be counted again");
        } else {
            tracing::warn!(
                agent,
                keys,
                "something else lies under these keys, and what waits there is not counted: `storyfleet doctor` tells what"
            );
        }
        *told = unreadable;
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
