//! Who may call a model now: limits of the whole installation for each model, and budgets of a day. What a call may use at
//! most is reserved before it is made and settled by what it used, so that no number of workers goes over together.
//!
//! By Redis's clock alone. A model's limits a minute are a bucket that holds a sixth of it and gains the other five sixths in
//! a minute, steadily: no minute of the provider has more than the limit, whenever it begins.

use std::time::Duration;

use story::StoryId;

use crate::lease::millis;
use crate::reply::{next, read, verdict};
use crate::script::{Call, Script, admission_script};
use crate::{Bus, Error};

pub(crate) static ADMIT: Script = Script::new(admission_script!("admit"));
pub(crate) static SETTLE: Script = Script::new(admission_script!("settle"));

/// Of what a provider grants for one model. Zeros are no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub requests_per_minute: u64,
    pub tokens_per_minute: u64,
    pub at_once: u64,
}

/// What is not to be passed in a day, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub unit: Unit,
    /// Whose it is, for example `story:castle`. Those of equal names are one.
    pub whose: String,
    pub a_day: u64,
}

/// What a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Tokens,
    /// In millionths of the currency that prices are in.
    Cost,
}

/// A call that wants to be made.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The turn that it is made in: the same for every attempt.
    pub turn: &'a str,
    /// Which of its calls: each holds once.
    pub number: u32,
    /// Another one for each attempt at the turn, as `<entry>-<deliveries>-<anything>`: what one that is not later holds is let
    /// go.
    pub attempt: &'a str,
    /// The model, at its provider.
    pub model: &'a str,
    /// Who waits longest of those that want the same is decided between stories.
    pub story: &'a StoryId,
    pub most: Used,
    /// How long it may take: then another may call in its place, and all that it might have used counts.
    pub life: Duration,
    pub limits: Limits,
    pub budgets: &'a [Budget],
}

/// What a call uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Of the prompt and the answer.
    pub tokens: u64,
    /// In millionths.
    pub cost: u64,
}

/// Whether the call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It holds what it may use until [`Bus::settle`], or for as long as it said.
    Go,
    /// To be asked again then: who does not within 2 s more loses its place.
    Wait {
        again: Duration,
        /// How many are ahead.
        place: u64,
    },
    /// A later attempt holds something, or waits for this call: this one has lost the turn.
    Stale,
    /// The budget of this index has no room for it until then.
    Over { budget: usize, until: Duration },
}

impl Ask<'_> {
    fn call(&self) -> String {
        format!("{}:{}", self.turn, self.number)
    }
}

impl Bus {
    /// Reserves what the call may use, or tells when to ask again.
    ///
    /// # Errors
    /// When Redis was not reached or refuses.
    pub async fn admit(&self, ask: &Ask<'_>) -> Result<Admitted, Error> {
        let Limits {
            requests_per_minute,
            tokens_per_minute,
            at_once,
        } = ask.limits;
        let mut call = ADMIT.call();
        call.keys(self.keys.admission(ask.model));
        call.arg(ask.call()).arg(ask.attempt).arg(ask.model);
        call.arg(ask.story.as_str());
        call.number(ask.most.tokens).number(ask.most.cost);
        call.number(millis(ask.life).max(1));
        call.number(requests_per_minute).number(tokens_per_minute);
        call.number(at_once);
        for budget in ask.budgets {
            call.arg(budget.name()).number(budget.a_day);
        }
        let (word, rest) = verdict(call.run_until_answered(&self.link).await?)?;
        let mut rest = rest.into_iter();
        match word.as_str() {
            "OK" | "AGAIN" => Ok(Admitted::Go),
            "WAIT" => Ok(Admitted::Wait {
                again: Duration::from_millis(next(&mut rest)?),
                place: next(&mut rest)?,
            }),
            "STALE" => Ok(Admitted::Stale),
            "OVER" => Ok(Admitted::Over {
                budget: next(&mut rest)?,
                until: Duration::from_millis(next(&mut rest)?),
            }),
            _ => Err(Error::data(format!("admit.lua replied {word}"))),
        }
    }

    /// Ends what a call holds, or its wait. `used`: as far as the provider told, else all that was held counts. `pause`: how
    /// long it asked that nobody call the model; ten minutes at most. Gives whether it still held something.
    ///
    /// # Errors
    /// When Redis was not reached or refuses.
    pub async fn settle(
        &self,
        ask: &Ask<'_>,
        used: Option<Used>,
        pause: Duration,
    ) -> Result<bool, Error> {
        let mut keys = self.keys.admission(ask.model);
        keys.pop();
        let mut call = SETTLE.call();
        call.keys(keys).arg(ask.call()).arg(ask.attempt);
        told(&mut call, used.map(|used| used.tokens));
        told(&mut call, used.map(|used| used.cost));
        call.number(ask.limits.tokens_per_minute)
            .number(millis(pause));
        Ok(read::<u8>(call.run_until_answered(&self.link).await?)? == 1)
    }
}

fn told(call: &mut Call, used: Option<u64>) {
    call.arg(used.map_or_else(|| "-1".to_owned(), |used| used.to_string()));
}

impl Budget {
    fn name(&self) -> String {
        let unit = match self.unit {
            Unit::Tokens => 't',
            Unit::Cost => 'c',
        };
        format!("{unit}:{}", self.whose)
    }
}
