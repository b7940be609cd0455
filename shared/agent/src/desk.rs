//! Where a worker's calls to models get leave: of those that do not fail ([`Breaker`]), and within the limits of its
//! [`Models`], which Redis keeps for the fleet.
//!
//! Who waits keeps its event's lease, and none of the calls that the model takes at once. What a call used is told behind
//! the turn's back: nothing but the turn's next call waits for that, which may need what comes back. Of what cannot be told
//! all that was reserved counts, and another may call in its place when the call's time is over.

mod claim;
mod ending;
mod payer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bus::{Admitted, Ask, Bus, Used};
use futures::FutureExt;
use llm::{Asked, Class, Done, Error, Gate, Leave, Most, Pass, Spent};
use prometheus::{Histogram, IntGauge};
use story::{Event, EventId, LogEntry};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::claim::{Claim, over};
use self::ending::Claiming;
pub(crate) use self::ending::Held;
pub(crate) use self::payer::Attempt;
use self::payer::Payer;
use crate::breaker::{Breaker, Named, Verdict};
use crate::metrics::Meters;
use crate::models::Model;
use crate::retry::Backoff;
use crate::{Models, Setup};

/// What may wait to be told to Redis. One more is let go: all that it reserved counts.
const UNTOLD: usize = 1_024;

/// Beyond the longest call: for what happens before it is sent and after it ended.
const SLACK: Duration = Duration::from_secs(30);

/// How long a call waits for the limits of a model that another one could be asked for.
const BUSY: Duration = Duration::from_secs(2);

/// Gives leave to call models.
#[derive(Debug)]
pub(crate) struct Desk {
    bus: Bus,
    /// In the order in which they are asked.
    chain: Vec<Line>,
    models: Models,
    /// `None`: no model is left alone, and no retry held back.
    pub(crate) breaker: Option<Breaker>,
    /// How long a call holds what it may use at most.
    life: Duration,
    waiting: IntGauge,
    waits: Histogram,
    ended: mpsc::Sender<Held>,
}

/// One of the models.
#[derive(Debug)]
struct Line {
    name: String,
    model: Model,
    is_limited: bool,
    /// It was said that its limits never have room for a call like one that was to be made.
    is_told: AtomicBool,
}

impl Desk {
    /// # Errors
    /// When a limit cannot be kept for one of the models.
    pub(crate) fn new(
        bus: &Bus,
        setup: &Setup,
        meters: &Meters,
        breaks: bool,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Held>)> {
        let models = setup.models.clone();
        let chain = models.chain(&setup.model)?.into_iter();
        let chain = chain.map(|(name, model)| Line {
            is_limited: models.limits(&model),
            is_told: AtomicBool::new(false),
            name,
            model,
        });
        let chain: Vec<Line> = chain.collect();
        let named = chain.iter().enumerate();
        let named = named.map(|(place, line)| Named::of(&setup.llm, place, &line.name));
        let named = named.collect();
        let (ended, told) = mpsc::channel(UNTOLD);
        let desk = Self {
            bus: bus.clone(),
            breaker: breaks.then(|| Breaker::new(bus, meters, named)),
            chain,
            models,
            life: setup.llm.longest() + SLACK,
            waiting: meters.llm_waiting.clone(),
            waits: meters.llm_waits.clone(),
            ended,
        };
        Ok((Arc::new(desk), told))
    }

    /// Whether calls are limited.
    pub(crate) fn limits(&self) -> bool {
        self.chain.iter().any(|line| line.is_limited)
    }

    /// For the calls of one `attempt` at `event`, which is answered under `response` with those that `joined` its beat.
    pub(crate) fn gate(
        self: &Arc<Self>,
        event: &Event,
        joined: &[Event],
        history: &[LogEntry],
        made: (&EventId, Attempt),
    ) -> Gate {
        let payer = Arc::new(Payer::new(event, joined, history, made));
        let desk = Arc::clone(self);
        Gate::new(move |asked| {
            let (desk, payer) = (Arc::clone(&desk), Arc::clone(&payer));
            async move { desk.leave(&payer, asked).await }.boxed()
        })
    }

    async fn leave(self: Arc<Self>, payer: &Payer, asked: Asked) -> Result<Leave, Error> {
        let verdict = match &self.breaker {
            Some(breaker) => breaker.verdict(asked).await,
            None => Verdict::Go,
        };
        match verdict {
            Verdict::Go => {}
            Verdict::Next => return Ok(Leave::Next),
            Verdict::Stop => return Ok(Leave::Stop),
        }
        let leave = self.within_limits(payer, asked).await;
        if let (Ok(Leave::Go(_)), Some(breaker)) = (&leave, &self.breaker) {
            breaker.made(asked.kind);
        }
        leave
    }

    async fn within_limits(self: &Arc<Self>, payer: &Payer, asked: Asked) -> Result<Leave, Error> {
        if !self.chain[asked.model].is_limited {
            let desk = Arc::clone(self);
            let pass = Pass::new(move |done| desk.fared(asked.model, &done));
            return Ok(Leave::Go(pass));
        }
        payer.attempt.told().await;
        let claim = self.claim(payer, asked.model, asked.most);
        let wait = match asked.is_last {
            true => self.models.wait(),
            false => self.models.wait().min(BUSY),
        };
        let line = &self.chain[asked.model];
        let too_large = claim.too_large((&line.name, line.model.limits()));
        match self.admitted(claim, wait).await {
            Ok(claim) => Ok(Leave::Go(self.pass(claim, &payer.attempt))),
            // Another model has limits of its own.
            Err(error) if !asked.is_last && matches!(error.class, Class::Rate | Class::Budget) => {
                line.tell(too_large);
                Ok(Leave::Next)
            }
            Err(error) => Err(error),
        }
    }

    fn claim(&self, payer: &Payer, place: usize, most: Most) -> Claim {
        let Line { name, model, .. } = &self.chain[place];
        let answer = most.answer.unwrap_or_else(|| model.answer());
        let cost = model
            .price
            .map_or(0, |price| price.at_most(most.prompt, answer));
        let tokens = most.prompt.saturating_add(answer);
        let budgets = self
            .models
            .budgets((name, model), payer.story.as_str(), &payer.people);
        Claim {
            place,
            turn: payer.turn.clone(),
            number: payer.attempt.call(),
            attempt: Arc::clone(&payer.attempt.name),
            story: payer.story.clone(),
            most: Used { tokens, cost },
            budgets,
        }
    }

    /// The claim, once the limits of its model have room for it.
    async fn admitted(&self, claim: Claim, longest: Duration) -> Result<Claim, Error> {
        let Line { name, model, .. } = &self.chain[claim.place];
        if let Some(what) = claim.too_large_for_a_minute((name, model.limits())) {
            return Err(Error::new(Class::Budget, what));
        }
        let claim = Claiming::new(self, claim);
        let mut waiting = None;
        // As Redis told it to: while that is away nobody waits for a limit.
        let (mut waited, mut backoff) = (Duration::ZERO, Backoff::default());
        loop {
            match self.bus.admit(&self.ask(&claim)).await {
                Ok(Admitted::Go) => {
                    self.waits.observe(waited.as_secs_f64());
                    return Ok(claim.over());
                }
                Ok(Admitted::Over { budget, until }) => {
                    return Err(over(&claim.over(), budget, until));
                }
                Ok(Admitted::Wait { again, .. }) if waited + again <= longest => {
                    waiting.get_or_insert_with(|| Waiting::new(&self.waiting));
                    sleep(again).await;
                    waited += again;
                }
                Ok(Admitted::Wait { place, .. }) => {
                    self.end(Held::nothing(claim.over()));
                    let what = format!(
                        "the limits of {name} have no room within {longest:?}: {place} calls are ahead"
                    );
                    return Err(Error::new(Class::Rate, what));
                }
                Err(error) if error.is_passing() => {
                    // That is Redis's doing, and no limit's.
                    waiting = None;
                    backoff.pause().await;
                }
                Ok(Admitted::Stale) => {
                    claim.over();
                    let what = "another worker has the turn";
                    return Err(Error::new(Class::Cancelled, what));
                }
                Err(error) => {
                    let what = format!("the limits of {name} cannot be asked: {error}");
                    return Err(Error::new(Class::Internal, what));
                }
            }
        }
    }

    fn ask<'a>(&'a self, claim: &'a Claim) -> Ask<'a> {
        let Line { name, model, .. } = &self.chain[claim.place];
        Ask {
            turn: &claim.turn,
            number: claim.number,
            attempt: &claim.attempt,
            model: name,
            story: &claim.story,
            most: claim.most,
            life: self.life,
            limits: model.limits(),
            budgets: &claim.budgets,
        }
    }

    fn pass(self: &Arc<Self>, claim: Claim, attempt: &Attempt) -> Pass {
        let (desk, attempt) = (Arc::clone(self), attempt.clone());
        Pass::new(move |done: Done| {
            desk.fared(claim.place, &done);
            let used = desk.used(claim.place, done.spent);
            let held = Held::of(claim, used, done.pause.unwrap_or_default());
            desk.end(held.before_the_next_of(&attempt));
        })
    }

    fn used(&self, place: usize, spent: Spent) -> Option<Used> {
        let price = self.chain[place].model.price;
        match spent {
            Spent::Nothing => Some(Used::default()),
            Spent::Unknown => None,
            Spent::Told(usage) => Some(Used {
                tokens: u64::from(usage.prompt) + u64::from(usage.completion),
                cost: price.map_or(0, |price| price.of(&usage)),
            }),
        }
    }

    /// The model at this place is asked with another key.
    pub(crate) fn keyed(&self, llm: &llm::Client, place: usize) {
        if let (Some(breaker), Some(line)) = (&self.breaker, self.chain.get(place)) {
            breaker.renamed(place, Named::of(llm, place, &line.name));
        }
    }

    fn fared(&self, place: usize, done: &Done) {
        if let Some(breaker) = &self.breaker {
            breaker.told(place, done);
        }
    }

    /// Tells Redis how models fare, and looks how they are, until `end`.
    pub(crate) async fn follow(self: Arc<Self>, end: CancellationToken) {
        match &self.breaker {
            Some(breaker) => breaker.follow(end).await,
            None => end.cancelled().await,
        }
    }
}

impl Line {
    /// Once: every call might say the same, and nobody sees it fail.
    fn tell(&self, too_large: Option<String>) {
        if let Some(why) = too_large.filter(|_| !self.is_told.swap(true, Ordering::Relaxed)) {
            let model = self.name.as_str();
            tracing::warn!(
                model,
                why,
                "the model's limits never have room for such a call: another one is asked"
            );
        }
    }
}

/// Counted for as long as it lives.
struct Waiting<'a>(&'a IntGauge);

impl<'a> Waiting<'a> {
    fn new(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests;
