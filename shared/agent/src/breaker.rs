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

use bus::{Bus, Fared, Wanted};
use llm::{Asked, Done, Kind};
use rand::seq::IndexedRandom;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::known::{Begins, Known};
use crate::metrics::Meters;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
const LETTERS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// A model that may be left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// For people.
    pub(crate) name: String,
    /// Where it is served, and for whom: what one account is refused another is not.
    pub(crate) account: String,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    bus: Bus,
    meters: Meters,
    /// Told with all that is told: failures of several workers are told apart by it.
    letter: char,
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

impl Named {
    /// The model at this place. A key is told by a part of its digest.
    pub(crate) fn of(llm: &llm::Client, place: usize, name: &str) -> Self {
        let address = llm.addresses().nth(place).unwrap_or_default();
        let key = llm.key(place).map(|key| {
            let digest = Sha256::digest(["a key of a model: ", key.expose_secret()].concat());
            digest
                .iter()
                .take(4)
                .map(|byte| format!("{byte:02x}"))
                .collect()
        });
        let key: String = key.unwrap_or_default();
        Self {
            name: name.to_owned(),
            account: [address, name, &key].join(" "),
        }
    }
}

impl Breaker {
    /// `models`: in the order in which they are asked.
    pub(crate) fn new(bus: &Bus, meters: &Meters, models: Vec<Named>) -> Self {
        for model in &models {
            meters.is_open(&model.name, false);
        }
        Self {
            bus: bus.clone(),
            meters: meters.clone(),
            letter: char::from(*LETTERS.choose(&mut rand::rng()).unwrap_or(&b'a')),
            known: Mutex::new(Known::new(models)),
            news: Notify::new(),
        }
    }

    /// The model at this place is asked with another key.
    pub(crate) fn renamed(&self, place: usize, named: Named) {
        self.known().renamed(place, named.account);
        self.meters.is_open(&named.name, false);
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

    /// A request is made: one that may be is not yet, since its model's limits may send it to another one.
    pub(crate) fn made(&self, kind: Kind) {
        self.known().made(kind);
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
        let mut untold = Untold::of(self, tries);
        let asked = (untold.calls, wanted);
        match self.bus.health(self.letter, asked, &untold.fared).await {
            Ok(health) => {
                let fared = untold.told();
                self.known().apply(&fared, &health, &self.meters);
                health.granted
            }
            Err(error) => {
                self.known().is_refused(&error);
                // Calls have bounds of their own.
                true
            }
        }
    }

    /// Those begun of which Redis does not know.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> u64 {
        self.known().calls
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being told: if that comes to nothing, also because the turn ends meanwhile, it is told the next time.
struct Untold<'a> {
    breaker: &'a Breaker,
    calls: u64,
    fared: Vec<Fared>,
}

impl<'a> Untold<'a> {
    fn of(breaker: &'a Breaker, tries: Option<usize>) -> Self {
        let (calls, fared) = breaker.known().take(tries);
        Self {
            breaker,
            calls,
            fared,
        }
    }

    fn told(&mut self) -> Vec<Fared> {
        self.calls = 0;
        std::mem::take(&mut self.fared)
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.breaker.known().give_back(self.calls, &self.fared);
    }
}
