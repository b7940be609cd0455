//! What a worker knows of its models: how they fared that Redis does not know yet, and which are open.

use std::time::Duration;

use bus::{Fared, Health, State};
use llm::{Asked, Class, Done, Kind};
use tokio::time::Instant;

use super::{EVERY, Taking};
use crate::metrics::Meters;

/// How long a model is left alone that refuses the key, or has no credit left: until somebody sees to it.
const REFUSES: Duration = Duration::from_secs(30);
/// The same of one that is asked too much and does not say for how long, where there is another one.
const BUSY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Known {
    /// In the order in which they are asked.
    models: Vec<Model>,
    /// Calls begun of which Redis does not know.
    calls: u64,
    /// It was said that Redis cannot be asked.
    is_denied: bool,
}

#[derive(Debug)]
struct Model {
    /// Without its address, for people.
    name: String,
    /// What Redis does not know yet.
    fared: Fared,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    since: Instant,
    again: Instant,
    trial: Trial,
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
    /// `models`: the address of each and its name.
    pub(super) fn new(models: &[(String, String)]) -> Self {
        let models = models.iter().map(|(url, name)| Model {
            name: name.clone(),
            fared: Fared {
                model: format!("{url} {name}"),
                ..Fared::default()
            },
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
        model.fared.answered += u64::from(done.failed.is_none());
        model.fared.failed += u64::from(failed);
        model.fared.shut = model.fared.shut.max(shut.unwrap_or_default());
        match done.failed {
            None => model.open.is_some(),
            Some(_) => failed || shut.is_some(),
        }
    }

    /// An event was taken to try a model with.
    pub(super) fn took(&mut self) {
        let open = self
            .models
            .iter_mut()
            .filter_map(|model| model.open.as_mut());
        for open in open.filter(|open| open.trial == Trial::Granted) {
            open.trial = Trial::Taken;
        }
    }

    pub(super) fn begins(&mut self, asked: Asked) -> Begins {
        let begins = self.models[asked.model].begins(asked.is_last);
        let is_call = begins == Begins::Asked && asked.kind == Kind::First;
        self.calls += u64::from(is_call);
        begins
    }

    /// How many events may be taken; the place of a model that may be tried, where it is to be asked who tries it.
    pub(super) fn resting(&self, longest: Duration) -> Result<Taking, usize> {
        let open: Option<Vec<Open>> = self.models.iter().map(|model| model.open).collect();
        let Some(open) = open.filter(|open| open.iter().all(|open| open.since.elapsed() < longest))
        else {
            return Ok(Taking::All);
        };
        if open.iter().any(|open| open.trial == Trial::Granted) {
            return Ok(Taking::One);
        }
        let now = Instant::now();
        let idle = |open: &Open| open.trial == Trial::No;
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

    /// What could not be told is told the next time.
    pub(super) fn give_back(&mut self, calls: u64, fared: &[Fared], error: &bus::Error) {
        self.calls += calls;
        for (model, untold) in self.models.iter_mut().zip(fared) {
            model.fared.answered += untold.answered;
            model.fared.failed += untold.failed;
            model.fared.shut = model.fared.shut.max(untold.shut);
        }
        // Whether Redis is away is told by whoever asks it for work.
        if !error.is_passing() && !self.is_denied {
            self.is_denied = true;
            tracing::warn!(%error, "how models fare is not shared with the fleet");
        }
    }

    pub(super) fn apply(&mut self, told: &[Fared], health: &Health, meters: &Meters) {
        let now = Instant::now();
        for ((model, told), state) in self.models.iter_mut().zip(told).zip(&health.models) {
            let before = model.open.take();
            let (since, again, trial) = match *state {
                State::Closed => {
                    if before.is_some() {
                        tracing::warn!(model = model.name, "the model answers again");
                        meters.is_open(&model.name, false);
                    }
                    continue;
                }
                State::Trial { since } => (since, Duration::ZERO, Trial::Granted),
                State::Open { again, since } => {
                    // A trial is over when its end was told, or when nobody's runs any more.
                    let is_over = told.tells() || again.is_zero();
                    let trial = before.map_or(Trial::No, |before| before.trial);
                    (since, again, if is_over { Trial::No } else { trial })
                }
            };
            if before.is_none() {
                tracing::warn!(
                    model = model.name,
                    "the model fails: it is left alone until it answers"
                );
                meters.is_open(&model.name, true);
            }
            model.open = Some(Open {
                since: now.checked_sub(since).unwrap_or(now),
                again: now + again,
                trial,
            });
        }
    }
}

impl Model {
    /// `is_last`: no other one can be asked instead.
    fn begins(&mut self, is_last: bool) -> Begins {
        let Some(open) = &mut self.open else {
            return Begins::Asked;
        };
        match open.trial {
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
