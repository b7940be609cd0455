//! Which models are left alone for now, since they fail, and whether there may be one more retry: as Redis knows it for the whole
//! fleet, looked at each second, and at once when a request failed.
//!
//! A model that is open fails no call. Its calls go to the next model; where there is none they are made all the same, and
//! the worker takes no new events meanwhile: they stay for workers with other models, and for who scales the fleet. That
//! lasts no longer than a call may, since each event is to have an end. Where Redis does not answer a worker goes on with
//! what it knows.

mod known;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Bus, Wanted};
use llm::{Asked, Done, Kind};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::known::{Begins, Known};
use crate::metrics::Meters;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
#[derive(Debug)]
pub(crate) struct Breaker {
    bus: Bus,
    meters: Meters,
    known: Mutex<Known>,
    /// There is something to tell that others should know at once.
    news: Notify,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Next,
    Stop,
}

/// How many events may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    All,
    /// To try a model with.
    One,
    NoneUntil(Instant),
}

impl Breaker {
    /// `models`: the address of each and its name, in the order in which they are asked.
    pub(crate) fn new(bus: &Bus, meters: &Meters, models: &[(String, String)]) -> Self {
        for (_, name) in models {
            meters.is_open(name, false);
        }
        Self {
            bus: bus.clone(),
            meters: meters.clone(),
            known: Mutex::new(Known::new(models)),
            news: Notify::new(),
        }
    }

    /// Whether a request may be made: a round trip where it is no first one, or where it may try a model.
    pub(crate) async fn verdict(&self, asked: Asked) -> Verdict {
        let wanted = match asked.kind {
            Kind::First | Kind::Free => Wanted::Nothing,
            Kind::Retry => Wanted::Retry,
            Kind::Fallback => Wanted::Fallback,
        };
        let tries = match self.known().begins(asked) {
            Begins::Passed => return Verdict::Next,
            Begins::Due => true,
            Begins::Asked => false,
        };
        if wanted == Wanted::Nothing && !tries {
            return Verdict::Go;
        }
        let granted = self.exchange(wanted, tries.then_some(asked.model)).await;
        if tries && self.known().begins(asked) != Begins::Asked {
            return Verdict::Next;
        }
        match (granted, wanted) {
            (true, Wanted::Fallback) => self.meters.llm_fallbacks.inc(),
            (true, _) => {}
            (false, _) => {
                self.meters.llm_retries_refused.inc();
                return Verdict::Stop;
            }
        }
        Verdict::Go
    }

    /// What became of a request to the model at this place.
    pub(crate) fn told(&self, place: usize, done: &Done) {
        let is_news = self.known().told(place, done);
        if is_news {
            self.news.notify_one();
        }
    }

    /// How many events may be taken, by whoever can answer none without a model. `longest`: how long none may be taken at most.
    pub(crate) async fn taking(&self, longest: Duration) -> Taking {
        let due = match self.known().resting(longest) {
            Ok(taking) => return taking,
            Err(due) => due,
        };
        self.exchange(Wanted::Nothing, Some(due)).await;
        // Whatever is due by now is asked for the next time.
        let taking = self.known().resting(longest);
        taking.unwrap_or_else(|_| Taking::NoneUntil(Instant::now() + EVERY))
    }

    /// An event was taken to try a model with.
    pub(crate) fn took(&self) {
        self.known().took();
    }

    /// Tells and looks, until `end`.
    pub(crate) async fn follow(&self, end: CancellationToken) {
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = sleep(EVERY) => {}
                () = end.cancelled() => return,
            }
            self.exchange(Wanted::Nothing, None).await;
        }
    }

    /// Whether what is wanted may be made. `tries`: the model that would be tried.
    async fn exchange(&self, wanted: Wanted, tries: Option<usize>) -> bool {
        let (calls, fared) = self.known().take(tries);
        match self.bus.health(calls, wanted, &fared).await {
            Ok(health) => {
                self.known().apply(&fared, &health, &self.meters);
                health.granted
            }
            Err(error) => {
                self.known().give_back(calls, &fared, &error);
                // Calls have bounds of their own.
                true
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
