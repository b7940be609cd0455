//! Which models are not to be asked for now, since they fail, and how many retries may be made: told and asked in one round
//! trip, for the whole installation. scripts/breaker.lua has the rules.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lease::millis;
use crate::reply::{next, read};
use crate::script::Script;
use crate::{Bus, Error};

pub(crate) static BREAKER: Script = Script::new(include_str!("../scripts/breaker.lua"));

/// So many of the last requests tell how a model is.
const KEPT: usize = 20;

/// An open model that nobody asked about for so long is nobody's any more.
const FORGOTTEN: Duration = Duration::from_secs(5 * 60);

/// How a model fared since that was last told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fared {
    /// The model, where it is served, and for which account.
    pub model: String,
    /// The last requests, oldest first: `.` answered, `x` failed.
    pub ended: String,
    /// How long it says that it is not to be asked; a minute at most.
    pub shut: Duration,
    /// Whether it is to be tried while it is open.
    pub tries: bool,
    /// Whether another one is asked in its place.
    pub has_next: bool,
}

impl Fared {
    /// A request was answered, or failed.
    pub fn ends(&mut self, answered: bool) {
        if self.ended.len() == KEPT {
            self.ended.remove(0);
        }
        self.ended.push(if answered { '.' } else { 'x' });
    }

    /// What was told in vain comes before what came since.
    pub fn after(&mut self, untold: &Self) {
        let all = [untold.ended.as_str(), &self.ended].concat();
        self.ended = all[all.len().saturating_sub(KEPT)..].to_owned();
        self.shut = self.shut.max(untold.shut);
    }

    /// Whether some request to the model ended.
    #[must_use]
    pub fn tells(&self) -> bool {
        !self.ended.is_empty() || !self.shut.is_zero()
    }

    /// How many of the requests failed.
    #[must_use]
    pub fn failures(&self) -> usize {
        self.ended.matches('x').count()
    }
}

/// What may be made beside a call's first request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// Another one to the same model: refused where too many were made.
    Retry,
    /// One to another model: never refused.
    Fallback,
}

/// How models are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether what was wanted may be made.
    pub granted: bool,
    /// In the order in which they were told of.
    pub models: Vec<State>,
}

/// How a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    Open {
        /// Until somebody may try it.
        again: Duration,
        since: Duration,
    },
    /// It is open since then, and whoever asked may try it: nobody else for 10 s.
    Trial {
        since: Duration,
    },
}

/// A model that is left alone now, since it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// As [`Fared::model`].
    pub model: String,
    pub since: Duration,
}

impl Bus {
    /// The models that are open and that somebody asks about, in the order of their names. Tells nothing and tries none.
    ///
    /// # Errors
    /// When Redis was not reached or refuses.
    pub(crate) async fn failing(&self) -> Result<Vec<Open>, Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(self.keys.health());
        pipe.cmd("TIME");
        let mut replies = self.link.pipe(&pipe).await?.into_iter();
        let fields: BTreeMap<Vec<u8>, Vec<u8>> = next(&mut replies)?;
        let (seconds, micros): (u64, u64) = next(&mut replies)?;
        let now = seconds * 1_000 + micros / 1_000;
        let open = fields.iter().filter_map(|it| open(it, now));
        Ok(open.filter(|it| is_asked(it, &fields, now)).collect())
    }

    /// Tells how models fared, in the order in which they are asked, with the calls that were begun, and asks how they are.
    /// Retries are shared by those who ask the same one first. `teller`: a letter or a digit, by which failures of several are
    /// told apart.
    ///
    /// # Errors
    /// When Redis was not reached or refuses.
    pub async fn health(
        &self,
        teller: char,
        (calls, wanted): (u64, Wanted),
        models: &[Fared],
    ) -> Result<Health, Error> {
        let mut call = BREAKER.call();
        call.key(self.keys.health()).number(calls);
        call.arg(match wanted {
            Wanted::Nothing => "",
            Wanted::Retry => "retry",
            Wanted::Fallback => "fallback",
        });
        call.arg(teller.to_string());
        for fared in models {
            call.arg(fared.model.as_str()).arg(fared.ended.as_str());
            call.number(millis(fared.shut));
            call.number(fared.tries).number(fared.has_next);
        }
        let reply: Vec<u64> = read(call.run(&self.link).await?)?;
        let (granted, models) = reply
            .split_first()
            .ok_or_else(|| Error::data("breaker.lua gave an empty reply"))?;
        let models = models.chunks_exact(3).map(|model| {
            let [state, again, since] = [model[0], model[1], model[2]];
            let [again, since] = [again, since].map(Duration::from_millis);
            match state {
                0 => State::Closed,
                1 => State::Open { again, since },
                _ => State::Trial { since },
            }
        });
        Ok(Health {
            granted: *granted == 1,
            models: models.collect(),
        })
    }
}

/// Whether its worker still looks: an account whose key was renewed is another one, and nothing closes the old one.
fn is_asked(open: &Open, fields: &BTreeMap<Vec<u8>, Vec<u8>>, now: u64) -> bool {
    let kept = fields.get(format!("s:{}", open.model).as_bytes());
    let asked = kept.and_then(|at| std::str::from_utf8(at).ok()?.parse::<u64>().ok());
    asked.is_none_or(|at| now.saturating_sub(at) <= millis(FORGOTTEN))
}

/// As breaker.lua writes it: `m:<model>`, and its requests, when it may be tried, when it opened (0: it is closed) …
fn open((field, kept): (&Vec<u8>, &Vec<u8>), now: u64) -> Option<Open> {
    let model = std::str::from_utf8(field).ok()?.strip_prefix("m:")?;
    let opened = std::str::from_utf8(kept).ok()?.split(' ').nth(2)?;
    let opened: u64 = opened.parse().ok().filter(|opened| *opened > 0)?;
    Some(Open {
        model: model.to_owned(),
        since: Duration::from_millis(now.saturating_sub(opened)),
    })
}
