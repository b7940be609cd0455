//! What a worker knows of its models: how they fared that Redis does not know yet, and which are open.

use std::time::Duration;

use bus::{Fared, Health, State};
use llm::{Asked, Class, Done, Kind};
use tokio::time::Instant;

use super::{EVERY, Named, Taking};
use crate::metrics::Meters;

/// How long a model is left alone that refuses the key, or has no credit left: until somebody sees to it.
const REFUSES: Duration = Duration::from_secs(30);
/// The same of one that is asked too much and does not say for how long, where there is another one.
const BUSY: Duration = Duration::from_secs(1);

/// As long as Redis has nobody else try a model.
const TRIAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Known {
    /// In the order in which they are asked.
    models: Vec<Model>,
    /// Calls begun of which Redis does not know.
    pub(super) calls: u64,
    /// It was said that Redis cannot be asked.
    is_denied: bool,
}

#[derive(Debug)]
struct Model {
    /// Without its address, for people.
    name: String,
    /// What Redis does not know yet.
    fared: Fared,
    /// As far as this worker saw.
    failed: Option<Class>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    again: Instant,
    trial: Trial,
    /// Until then: another worker may try the model after it.
    trial_ends: Instant,
}

/// Whether this worker may try a model that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    No,
    Granted,
    /// An event was taken for it.
    Taken,
    /// A call is made.
    Running,
}

/// How a request to a model begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// The next model is asked instead.
    Passed,
    /// Somebody may try the model by now.
    Due,
    Asked,
}

impl Known {
    pub(super) fn new(models: Vec<Named>) -> Self {
        let last = models.len().saturating_sub(1);
        let models = models.into_iter().enumerate();
        let models = models.map(|(place, Named { name, account })| Model {
            name,
            fared: Fared {
                model: account,
                has_next: place < last,
                ..Fared::default()
            },
            failed: None,
            open: None,
        });
        Self {
            models: models.collect(),
            calls: 0,
            is_denied: false,
        }
    }

    /// A request to the model at this place ended. Gives whether others should know at once.
    pub(super) fn told(&mut self, place: usize, done: &Done) -> bool {
        let is_alone = self.models.len() == 1;
        let model = &mut self.models[place];
        let shut = done
            .failed
            .and_then(|class| shut(class, done.pause, is_alone));
        let failed = shut.is_none() && done.failed.is_some_and(is_of_the_model);
        if failed || shut.is_some() {
            model.failed = done.failed;
        }
        if failed || done.failed.is_none() {
            model.fared.ends(done.failed.is_none());
        }
        model.fared.shut = model.fared.shut.max(shut.unwrap_or_default());
        match done.failed {
            None => model.open.is_some(),
            Some(_) => failed || shut.is_some(),
        }
    }

    /// The model at this place is asked for another account: nothing is known of that.
    pub(super) fn renamed(&mut self, place: usize, account: String) {
        let model = &mut self.models[place];
        model.fared = Fared {
            model: account,
            has_next: model.fared.has_next,
            ..Fared::default()
        };
        model.open = None;
    }

    /// An event was taken to try a model with.
    pub(super) fn took(&mut self) {
        let open = self
            .models
            .iter_mut()
            .filter_map(|model| model.open.as_mut());
        for open in open.filter(|open| open.trial() == Trial::Granted) {
            open.trial = Trial::Taken;
        }
    }

    pub(super) fn begins(&mut self, asked: Asked) -> Begins {
        self.models[asked.model].begins(asked.is_last)
    }

    /// A request is made.
    pub(super) fn made(&mut self, kind: Kind) {
        self.calls += u64::from(kind == Kind::First);
    }

    /// How many events may be taken; the place of a model that may be tried, where it is to be asked who tries it.
    pub(super) fn resting(&self, longest: Duration) -> Result<Taking, usize> {
        let open: Option<Vec<Open>> = self.models.iter().map(|model| model.open).collect();
        // From when the last one opened: one that is asked in another's place may be open since nobody had to ask it again.
        let rests = |open: &Vec<Open>| open.iter().any(|open| open.since.elapsed() < longest);
        let Some(open) = open.filter(rests) else {
            return Ok(Taking::All);
        };
        if open.iter().any(|open| open.trial() == Trial::Granted) {
            return Ok(Taking::One);
        }
        let now = Instant::now();
        let idle = |open: &Open| open.trial() == Trial::No;
        if let Some(due) = open.iter().position(|open| idle(open) && open.again <= now) {
            return Err(due);
        }
        let times = open.iter().filter(|open| idle(open)).map(|open| open.again);
        let soon = now + EVERY;
        Ok(Taking::NoneUntil(
            times.min().map_or(soon, |at| at.min(soon)),
        ))
    }

    /// What is to be told.
    pub(super) fn take(&mut self, tries: Option<usize>) -> (u64, Vec<Fared>) {
        let models = self.models.iter_mut().enumerate().map(|(place, model)| {
            let next = Fared {
                model: model.fared.model.clone(),
                has_next: model.fared.has_next,
                ..Fared::default()
            };
            Fared {
                tries: tries == Some(place),
                ..std::mem::replace(&mut model.fared, next)
            }
        });
        let models = models.collect();
        (std::mem::take(&mut self.calls), models)
    }

    /// What was not told is told the next time. Nothing of a model that has another account by then.
    pub(super) fn give_back(&mut self, calls: u64, fared: &[Fared]) {
        self.calls += calls;
        for (model, untold) in self.models.iter_mut().zip(fared) {
            if model.fared.model == untold.model {
                model.fared.after(untold);
            }
        }
    }

    /// Whether Redis is away is told by whoever asks it for work; what else it says once.
    pub(super) fn is_refused(&mut self, error: &bus::Error) {
        if !error.is_passing() && !self.is_denied {
            self.is_denied = true;
            tracing::warn!(%error, "how models fare is not shared with the fleet");
        }
    }

    pub(super) fn apply(&mut self, told: &[Fared], health: &Health, meters: &Meters) {
        let now = Instant::now();
        let heard = self.models.iter_mut().zip(told).zip(&health.models);
        for ((model, told), state) in
            heard.filter(|((model, told), _)| model.fared.model == told.model)
        {
            let before = model.open.take();
            let (since, again, (trial, trial_ends)) = match *state {
                State::Closed => {
                    if before.is_some() {
                        tracing::warn!(model = model.name, "the model answers again");
                        meters.is_open(&model.name, false);
                    }
                    continue;
                }
                State::Trial { since } => (since, Duration::ZERO, (Trial::Granted, now + TRIAL)),
                State::Open { again, since } => {
                    // A trial is over when its end was told.
                    let before = before.filter(|_| !told.tells());
                    let trial = before.map(|before| (before.trial(), before.trial_ends));
                    (since, again, trial.unwrap_or((Trial::No, now)))
                }
            };
            if before.is_none() {
                tracing::warn!(
                    model = model.name,
                    class = model.failed.take().map(Class::as_str),
                    again_in_s = again.as_millis().div_ceil(1000),
                    "the model fails: it is left alone until it answers"
                );
                meters.is_open(&model.name, true);
            }
            model.open = Some(Open {
                since: now.checked_sub(since).unwrap_or(now),
                again: now + again,
                trial,
                trial_ends,
            });
        }
    }
}

impl Open {
    fn trial(&self) -> Trial {
        match Instant::now() < self.trial_ends {
            true => self.trial,
            false => Trial::No,
        }
    }
}

impl Model {
    /// `is_last`: no other one can be asked instead.
    fn begins(&mut self, is_last: bool) -> Begins {
        let Some(open) = &mut self.open else {
            return Begins::Asked;
        };
        match open.trial() {
            Trial::Granted | Trial::Taken => {
                open.trial = Trial::Running;
                Begins::Asked
            }
            _ if is_last => Begins::Asked,
            Trial::No if Instant::now() >= open.again => Begins::Due,
            Trial::No | Trial::Running => Begins::Passed,
        }
    }
}

/// For how long a model that fails so is left alone at once. `asked`: how long it asked for. One that is asked too much is
/// waited for where there is no other.
fn shut(class: Class, asked: Option<Duration>, is_alone: bool) -> Option<Duration> {
    match class {
        Class::Rate if is_alone => None,
        Class::Rate => Some(asked.unwrap_or(BUSY)),
        Class::Auth => Some(REFUSES),
        Class::Quota => Some(asked.unwrap_or_default().max(REFUSES)),
        _ => None,
    }
}

/// Whether a request that failed so says something of its model.
fn is_of_the_model(class: Class) -> bool {
    matches!(
        class,
        Class::FirstToken | Class::Stall | Class::Truncated | Class::Provider | Class::Connect
    )
}

#[cfg(test)]
mod tests;
