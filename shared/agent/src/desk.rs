//! Where a worker's calls to the model get leave: within the limits of its [`Models`], which Redis keeps for the fleet.
//!
//! Who waits keeps its event's lease, and none of the calls that the model takes at once. What a call used is told behind
//! the turn's back: nobody waits for that, and of what cannot be told all that was reserved counts, and another may call
//! in its place when the call's time is over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bus::{Admitted, Ask, Budget, Bus, Unit, Used};
use futures::FutureExt;
use llm::{Class, Error, Gate, Most, Pass, Spent};
use prometheus::{Histogram, IntGauge};
use story::{AuthorKind, Event, EventId, LogEntry, StoryId};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::metrics::Meters;
use crate::models::{Model, Models};
use crate::retry::Backoff;

/// What may wait to be told to Redis. One more is let go: all that it reserved counts.
const UNTOLD: usize = 1_024;

/// Beyond the longest call: for what happens before it is sent and after it ended.
const SLACK: Duration = Duration::from_secs(30);

/// How far back it is looked for whom an event was made.
const STEPS: usize = 8;

/// Gives leave to call one model.
#[derive(Debug)]
pub(crate) struct Desk {
    bus: Bus,
    name: String,
    model: Model,
    models: Models,
    /// How long a call holds what it may use at most.
    life: Duration,
    waiting: IntGauge,
    waits: Histogram,
    ended: mpsc::Sender<Held>,
}

/// A call's claim, while it waits and while it is made.
#[derive(Debug)]
struct Claim {
    call: String,
    attempt: Arc<str>,
    story: StoryId,
    most: Used,
    budgets: Vec<Budget>,
}

/// A claim that is over.
#[derive(Debug)]
pub(crate) struct Held {
    claim: Claim,
    used: Option<Used>,
    pause: Duration,
    since: Instant,
}

/// For whom a turn's calls are made.
struct Payer {
    story: StoryId,
    people: Vec<String>,
    response: EventId,
    /// Of this delivery alone.
    attempt: Arc<str>,
    calls: AtomicU32,
}

impl Desk {
    /// `None` where nothing is limited.
    ///
    /// # Errors
    /// When a limit cannot be kept for the model.
    pub(crate) fn new(
        bus: &Bus,
        models: &Models,
        llm: &llm::Client,
        name: &str,
        meters: &Meters,
    ) -> anyhow::Result<Option<(Arc<Self>, mpsc::Receiver<Held>)>> {
        let model = models.model(name)?;
        if !models.limits(&model) {
            return Ok(None);
        }
        let (ended, told) = mpsc::channel(UNTOLD);
        let desk = Self {
            bus: bus.clone(),
            name: name.to_owned(),
            model,
            models: models.clone(),
            life: llm.longest() + SLACK,
            waiting: meters.llm_waiting.clone(),
            waits: meters.llm_waits.clone(),
            ended,
        };
        Ok(Some((Arc::new(desk), told)))
    }

    /// For the calls of one delivery of `event`, which is answered under `response` with those that `joined` its beat.
    pub(crate) fn gate(
        self: &Arc<Self>,
        event: &Event,
        joined: &[Event],
        history: &[LogEntry],
        response: EventId,
    ) -> Gate {
        let payer = Arc::new(Payer {
            story: event.story.clone(),
            people: people(event, joined, history),
            response,
            attempt: format!("{:016x}", rand::random::<u64>()).into(),
            calls: AtomicU32::new(0),
        });
        let desk = Arc::clone(self);
        Gate::new(move |most| {
            let claim = desk.claim(&payer, most);
            let desk = Arc::clone(&desk);
            async move { desk.pass(claim).await }.boxed()
        })
    }

    fn claim(&self, payer: &Payer, most: Most) -> Claim {
        let call = payer.calls.fetch_add(1, Ordering::Relaxed);
        let answer = most.answer.unwrap_or_else(|| self.model.answer());
        let cost = self
            .model
            .price
            .map_or(0, |price| price.at_most(most.prompt, answer));
        let tokens = most.prompt.saturating_add(answer);
        Claim {
            call: format!("{}:{}:{call}", payer.story, payer.response),
            attempt: Arc::clone(&payer.attempt),
            story: payer.story.clone(),
            most: Used { tokens, cost },
            budgets: self.models.budgets(
                (&self.name, &self.model),
                payer.story.as_str(),
                &payer.people,
            ),
        }
    }

    async fn pass(self: Arc<Self>, claim: Claim) -> Result<Pass, Error> {
        let a_minute = self.model.limits().tokens_per_minute;
        if a_minute > 0 && claim.most.tokens > a_minute {
            let what = format!(
                "a call of up to {} tokens is more than the {a_minute} that {} is granted a minute",
                claim.most.tokens, self.name
            );
            return Err(Error::new(Class::Request, what));
        }
        let mut waiting = None;
        let (began, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            match self.bus.admit(&self.ask(&claim)).await {
                Ok(Admitted::Go) => {
                    self.waits.observe(began.elapsed().as_secs_f64());
                    return Ok(self.leave(claim));
                }
                Ok(Admitted::Over { budget, until }) => {
                    return Err(over(&claim, budget, until));
                }
                Ok(Admitted::Wait { again, .. })
                    if began.elapsed() + again <= self.models.wait() =>
                {
                    waiting.get_or_insert_with(|| Waiting::new(&self.waiting));
                    sleep(again).await;
                }
                Ok(Admitted::Wait { place, .. }) => {
                    self.end(claim, Some(Used::default()), Duration::ZERO);
                    let what = format!(
                        "the limits of {} have no room within {:?}: {place} calls are ahead",
                        self.name,
                        self.models.wait()
                    );
                    return Err(Error::new(Class::Rate, what));
                }
                Err(error) if error.is_passing() => {
                    // That is Redis's doing, and no limit's.
                    waiting = None;
                    backoff.pause().await;
                }
                Err(error) => {
                    let what = format!("the limits of {} cannot be asked: {error}", self.name);
                    return Err(Error::new(Class::Internal, what));
                }
            }
        }
    }

    fn ask<'a>(&'a self, claim: &'a Claim) -> Ask<'a> {
        Ask {
            call: &claim.call,
            attempt: &claim.attempt,
            model: &self.name,
            story: &claim.story,
            most: claim.most,
            life: self.life,
            limits: self.model.limits(),
            budgets: &claim.budgets,
        }
    }

    fn leave(self: &Arc<Self>, claim: Claim) -> Pass {
        let desk = Arc::clone(self);
        Pass::new(move |spent, pause| {
            let used = desk.used(spent);
            desk.end(claim, used, pause.unwrap_or_default());
        })
    }

    fn used(&self, spent: Spent) -> Option<Used> {
        match spent {
            Spent::Nothing => Some(Used::default()),
            Spent::Unknown => None,
            Spent::Told(usage) => Some(Used {
                tokens: u64::from(usage.prompt) + u64::from(usage.completion),
                cost: self.model.price.map_or(0, |price| price.of(&usage)),
            }),
        }
    }

    fn end(&self, claim: Claim, used: Option<Used>, pause: Duration) {
        let since = Instant::now();
        let held = Held {
            claim,
            used,
            pause,
            since,
        };
        if let Err(lost) = self.ended.try_send(held) {
            let call = lost.into_inner().claim.call;
            tracing::warn!(
                call,
                "it is not told what a call used: all that it might have counts"
            );
        }
    }

    /// Tells Redis what calls used, until `end`, and then what is untold still.
    pub(crate) async fn tell(
        self: Arc<Self>,
        mut told: mpsc::Receiver<Held>,
        end: CancellationToken,
    ) {
        loop {
            let held = tokio::select! {
                biased;
                held = told.recv() => held,
                () = end.cancelled() => None,
            };
            let Some(held) = held else { break };
            self.settle(&held, &end).await;
        }
    }

    /// Tries until it is over by itself, or once more after `end`.
    async fn settle(&self, held: &Held, end: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let done = self
                .bus
                .settle(&self.ask(&held.claim), held.used, held.pause)
                .await;
            match done {
                Ok(_) => return,
                Err(error)
                    if error.is_passing()
                        && held.since.elapsed() < self.life
                        && !end.is_cancelled() =>
                {
                    backoff.pause().await;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        error = crate::exit::line(&error),
                        "it is not told what a call used"
                    );
                    return;
                }
            }
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

fn over(claim: &Claim, place: usize, until: Duration) -> Error {
    let Some(Budget { whose, unit, a_day }) = claim.budgets.get(place) else {
        return Error::new(Class::Budget, "a budget of the day is used up");
    };
    let (unit, most) = match unit {
        Unit::Tokens => ("tokens", claim.most.tokens),
        Unit::Cost => ("millionths of cost", claim.most.cost),
    };
    let hours = until.as_secs() / 3_600;
    let minutes = until.as_secs() % 3_600 / 60;
    let what = match most > *a_day {
        true => format!(
            "a call that may take {most} {unit} is more than all of a day's {a_day} of {whose}"
        ),
        false => format!(
            "of a day's {a_day} {unit} of {whose} too few are left: the next one begins in {hours} h {minutes} min"
        ),
    };
    Error::new(Class::Budget, what)
}

/// Who did what is answered, each once.
fn people(event: &Event, joined: &[Event], history: &[LogEntry]) -> Vec<String> {
    let all = std::iter::once(event).chain(joined);
    let people: BTreeSet<&str> = all.filter_map(|event| person(event, history)).collect();
    people.into_iter().map(str::to_owned).collect()
}

/// Who did what the event answers, as far as the log that the turn was given tells.
fn person<'a>(event: &'a Event, history: &'a [LogEntry]) -> Option<&'a str> {
    let mut event = event;
    for _ in 0..STEPS {
        if event.author.kind == AuthorKind::User {
            return Some(&event.author.id);
        }
        let cause = event.cause.first()?;
        let found = history.iter().find(|entry| entry.event.id == *cause)?;
        event = &found.event;
    }
    None
}

#[cfg(test)]
mod tests;
