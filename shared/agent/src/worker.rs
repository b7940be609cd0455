//! The worker: wires the loops together, and ends them in the right order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bus::{Bus, Delivery};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::desk::{Desk, Held};
use crate::flags::Tier;
use crate::health::{Health, Loop};
use crate::lease::{self, Hold, Leases};
use crate::metrics::Meters;
use crate::recording::Packer;
use crate::retry::Backoff;
use crate::{
    Agent, Metrics, Prompts, Setup, Shutdown, Window, exit, health, key, reload, take, turn, upkeep,
};

/// An event delivered more often than this is buried as `crash`: whoever answered it died of it.
pub const MAX_DELIVERIES: u32 = 3;

/// Renewed three times while it lasts, each within a round trip.
pub(crate) const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// How often the loop that waits for a slot says that it is alive.
const ROUND: Duration = Duration::from_secs(5);

/// Events of the log that an agent is given.
pub(crate) const HISTORY: usize = 40;

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct Settings {
    pub bus: bus::Settings,
    /// The first part of the consumer's name, for people: the pod, the host.
    pub name: String,
    /// Events answered at the same time.
    pub concurrency: usize,
    /// How long a silent worker keeps its events. The same in the whole fleet.
    pub lease: Duration,
    /// How long what is in flight may go on once the worker is asked to end.
    pub drain: Duration,
    /// Where `/metrics`, `/livez` and `/readyz` are served; `None` = nowhere.
    pub listen: Option<SocketAddr>,
    pub metrics: Metrics,
    /// About how many recordings of a story are kept, of all agents; 0 = none is made.
    pub recordings: u32,
    /// None older than this is kept.
    pub recording_age: Duration,
    /// Whether models that fail are left alone, and retries are held back when the fleet makes too many.
    pub breaker: bool,
    /// The moderator's, in each of the fleet's workers.
    pub tier2: Option<Tier>,
}

impl Settings {
    #[must_use]
    pub fn new(bus: bus::Settings) -> Self {
        Self {
            bus,
            name: "worker".to_owned(),
            concurrency: 64,
            lease: Duration::from_secs(10),
            drain: Duration::from_secs(45),
            listen: None,
            metrics: Metrics::new(),
            recordings: Packer::default().keep.turns,
            recording_age: Packer::default().keep.age,
            breaker: true,
            tier2: None,
        }
    }
}

pub(crate) struct Worker<A> {
    pub(crate) agent: A,
    pub(crate) name: story::Agent,
    pub(crate) settings: Settings,
    pub(crate) setup: Setup,
    /// What a turn that begins now is given.
    pub(crate) prompts: watch::Sender<Prompts>,
    /// The same: that of the setup, with the key that is good now.
    pub(crate) llm: watch::Sender<llm::Client>,
    /// Where turns are recorded at all.
    pub(crate) packer: Option<Packer>,
    /// Where calls to models get leave.
    pub(crate) desk: Arc<Desk>,
    /// That of the model, whose tokens are counted better with each answer.
    pub(crate) window: Window,
    pub(crate) bus: Bus,
    /// This life of this process: no two of them are ever the same.
    pub(crate) consumer: String,
    pub(crate) leases: Arc<Leases>,
    pub(crate) health: Arc<Health>,
    pub(crate) meters: Meters,
    pub(crate) turns: TaskTracker,
    pub(crate) shutdown: Shutdown,
}

/// Answers events until `shutdown`. Several may run in one process.
///
/// # Errors
/// When the settings cannot work, the server is not fit for the fleet, or a loop died. Redis being away is no error.
pub async fn run<A: Agent>(
    agent: A,
    setup: Setup,
    settings: Settings,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    // However this ends, whoever runs beside it under the same shutdown is asked to end too.
    let _drain = shutdown.drain.clone().drop_guard();
    let (worker, ended) = Worker::new(agent, setup, settings, shutdown.clone())?;
    let worker = Arc::new(worker);
    let mut loops = JoinSet::new();
    let end = CancellationToken::new();
    if let Some(listen) = worker.settings.listen {
        serve(&worker, listen, &mut loops, end.clone()).await?;
    }
    if let Some(folder) = worker.setup.prompts.clone() {
        loops.spawn(reload::follow(Arc::clone(&worker), folder, end.clone()));
    }
    for file in worker.setup.key_files().map_err(exit::configuration)? {
        loops.spawn(key::follow(Arc::clone(&worker), file, end.clone()));
    }
    loops.spawn(Arc::clone(&worker.desk).tell(ended, end.clone()));
    loops.spawn(Arc::clone(&worker.desk).follow(end.clone()));
    loops.spawn(upkeep::unreplicated(Arc::clone(&worker), end.clone()));
    loops.spawn(upkeep::slots(Arc::clone(&worker), end.clone()));
    let (mut renewing, over) = (JoinSet::new(), CancellationToken::new());
    renewing.spawn(lease::renew(Arc::clone(&worker), over.clone()));
    let mut taking = JoinSet::new();
    taking.spawn(take(Arc::clone(&worker), shutdown.drain.clone()));
    let ended = tokio::select! {
        () = shutdown.drain.cancelled() => Ok(()),
        () = shutdown.now.cancelled() => Ok(()),
        Some(ended) = loops.join_next() => {
            ended.context("a loop died").and_then(|()| bail!("a loop ended by itself"))
        }
        Some(ended) = renewing.join_next() => {
            ended.context("a loop died").and_then(|()| bail!("a loop ended by itself"))
        }
        Some(ended) = taking.join_next() => ended.context("a loop died").flatten(),
    };
    let taken = worker.drain(taking).await;
    // First: a renewal under way would keep what is given back.
    over.cancel();
    let renewed = all(renewing).await;
    worker.release(&worker.leases.unfinished()).await;
    end.cancel();
    let rest = all(loops).await;
    ended.and(taken).and(renewed).and(rest)
}

/// Waits for all of them. One that panicked keeps nobody from what is to be done after them.
async fn all(mut loops: JoinSet<()>) -> anyhow::Result<()> {
    let mut all = Ok(());
    while let Some(ended) = loops.join_next().await {
        all = all.and(ended.context("a loop died"));
    }
    all
}

/// Waits for a server that is fit, then takes new events and abandoned ones until `drain`.
async fn take<A: Agent>(worker: Arc<Worker<A>>, drain: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        checked = worker.check() => checked?,
        () = drain.cancelled() => return Ok(()),
    }
    tracing::info!(
        agent = worker.name.as_str(),
        consumer = worker.consumer,
        "taking events"
    );
    tokio::join!(
        take::run(Arc::clone(&worker), drain.clone()),
        upkeep::run(worker, drain),
    );
    Ok(())
}

async fn serve<A: Agent>(
    worker: &Worker<A>,
    listen: SocketAddr,
    loops: &mut JoinSet<()>,
    end: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for metrics"))?;
    let (health, bus) = (Arc::clone(&worker.health), worker.bus.clone());
    let pages = health::pages(health, bus, worker.settings.metrics.clone());
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /livez, /readyz");
    loops.spawn(async move {
        tokio::select! {
            served = axum::serve(listener, pages) => if let Err(error) = served {
                tracing::error!(%error, "the metrics server died");
            },
            () = end.cancelled() => {}
        }
    });
    Ok(())
}

impl<A: Agent> Worker<A> {
    /// The worker, and the calls of its desk that are over.
    fn new(
        agent: A,
        setup: Setup,
        settings: Settings,
        shutdown: Shutdown,
    ) -> anyhow::Result<(Self, mpsc::Receiver<Held>)> {
        if settings.concurrency == 0 || settings.lease < SHORTEST_LEASE {
            let what = "the concurrency must be at least 1 and the lease at least 100ms";
            return Err(exit::configuration(anyhow::anyhow!(what)));
        }
        let prompts = agent.prompts(setup.prompts.as_deref());
        let prompts = prompts.map_err(exit::configuration)?;
        let packed = settings.recordings > 0;
        let packer = packed.then(|| Packer::new(settings.recordings, settings.recording_age));
        let name = agent.agent();
        let meters = settings.metrics.of(name);
        let slots = i64::try_from(settings.concurrency).unwrap_or(i64::MAX);
        meters.slots.set(slots);
        let bus = Bus::new(settings.bus.clone())?;
        let desk = Desk::new(&bus, &setup, &meters, settings.breaker);
        let (desk, ended) = desk.map_err(exit::configuration)?;
        let window = Window::of(&setup.models, &setup.model);
        for doubt in setup.doubts(&prompts) {
            tracing::warn!("{doubt}");
        }
        let worker = Self {
            bus,
            desk,
            window: window.map_err(exit::configuration)?,
            // The fence tells workers apart by this name alone, and the name may be the same in every pod.
            consumer: format!("{}-{:032x}", settings.name, rand::random::<u128>()),
            leases: Leases::new(settings.concurrency, meters.in_flight.clone()),
            health: Arc::new(Health::new(meters.redis_up.clone())),
            turns: TaskTracker::new(),
            prompts: watch::Sender::new(prompts),
            llm: watch::Sender::new(setup.llm.clone()),
            packer,
            setup,
            agent,
            name,
            settings,
            meters,
            shutdown,
        };
        Ok((worker, ended))
    }

    /// Begins the turns of deliveries, except of those in flight here already. What another worker had meanwhile goes back
    /// uncharged: it comes again when the turn that is stopped here is over. What a read gives that was under way at the
    /// request to end is answered too: whoever took it over would begin later.
    pub(crate) async fn begin(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        let mut excess = Vec::new();
        for delivery in deliveries {
            match self.leases.hold(&delivery, &self.shutdown.now) {
                Hold::Slot(_) if self.shutdown.now.is_cancelled() => excess.push(delivery.lease),
                Hold::Slot(held) => {
                    self.turns
                        .spawn(turn::run(Arc::clone(self), delivery, held));
                }
                Hold::InFlight => {}
                Hold::HadElsewhere => {
                    tracing::warn!(lease = %delivery.lease, "another worker had the event meanwhile: beginning anew");
                    excess.push(delivery.lease);
                }
            }
        }
        self.release(&excess).await;
    }

    /// Waits for free slots, and gives how many there are; `None` at a drain. While all are taken the loop still goes round.
    pub(crate) async fn slot(&self, drain: &CancellationToken) -> Option<usize> {
        // A new interval's first tick is a moment late: a slot that is free at once would be faster than it, each time.
        self.health.round(Loop::Take);
        let mut rounds = interval_at(Instant::now() + ROUND, ROUND);
        let mut slot = std::pin::pin!(self.leases.slot());
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => return None,
                _ = rounds.tick() => self.health.round(Loop::Take),
                free = &mut slot => return Some(free),
            }
        }
    }

    async fn check(&self) -> anyhow::Result<()> {
        let mut backoff = Backoff::default();
        let mut asker = self.health.loop_asker();
        loop {
            self.health.round(Loop::Take);
            let checked = async {
                let report = self.bus.check(bus::Role::Worker).await?;
                if self.desk.limits() {
                    self.bus.check_rights(bus::Role::Caller).await?;
                }
                // A full Redis has work all the same; a replica gives none.
                let refusal = self.bus.write_refusal().await?;
                match refusal.filter(bus::Error::is_away) {
                    Some(replica) => Err(replica),
                    None => Ok(report),
                }
            };
            match checked.await {
                Ok(report) => {
                    asker.answered();
                    for warning in report.warnings {
                        tracing::warn!("{warning}");
                    }
                    return Ok(());
                }
                // Here a refused password is final: nobody changes it while a worker that never ran waits.
                Err(error) if error.is_passing() && !matches!(error, bus::Error::Denied(_)) => {
                    asker.failed(error);
                }
                Err(error) => return Err(error.into()),
            }
            backoff.pause().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_that_panicked_is_told_of_when_the_others_have_ended() {
        let (mut loops, end) = (JoinSet::new(), CancellationToken::new());
        let other = end.clone();
        loops.spawn(async { panic!("on purpose") });
        loops.spawn(async move {
            tokio::task::yield_now().await;
            other.cancel();
        });
        let ended = all(loops).await;
        assert_eq!(ended.unwrap_err().to_string(), "a loop died");
        assert!(end.is_cancelled());
    }
}
