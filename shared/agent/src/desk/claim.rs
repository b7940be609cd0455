//! What a call claims of its model's limits, and what is said where that is too much.

use std::sync::Arc;
use std::time::Duration;

use bus::{Budget, Limits, Unit, Used};
use llm::{Class, Error};
use story::StoryId;

/// A call's claim, while it waits and while it is made.
#[derive(Debug)]
pub(super) struct Claim {
    /// The place of its model.
    pub(super) place: usize,
    pub(super) turn: String,
    pub(super) number: u32,
    pub(super) attempt: Arc<str>,
    pub(super) story: StoryId,
    pub(super) most: Used,
    pub(super) budgets: Vec<Budget>,
}

impl Claim {
    /// Why no minute and no day ever has room for it in the limits of the model of this name, where none has.
    pub(super) fn too_large(&self, model: (&str, Limits)) -> Option<String> {
        let of_a_day = || {
            self.budgets
                .iter()
                .find_map(|budget| self.too_large_for(budget))
        };
        self.too_large_for_a_minute(model).or_else(of_a_day)
    }

    pub(super) fn too_large_for_a_minute(&self, (name, limits): (&str, Limits)) -> Option<String> {
        let (tokens, a_minute) = (self.most.tokens, limits.tokens_per_minute);
        (a_minute > 0 && tokens > a_minute).then(|| {
            format!(
                "a call of up to {tokens} tokens is more than the {a_minute} that {name} is granted a minute"
            )
        })
    }

    fn too_large_for(&self, budget: &Budget) -> Option<String> {
        let Budget { whose, a_day, .. } = budget;
        let (unit, most) = self.most_of(budget.unit);
        (most > *a_day).then(|| {
            format!(
                "a call that may take {most} {unit} is more than all of a day's {a_day} of {whose}"
            )
        })
    }

    fn most_of(&self, unit: Unit) -> (&'static str, u64) {
        match unit {
            Unit::Tokens => ("tokens", self.most.tokens),
            Unit::Cost => ("millionths of cost", self.most.cost),
        }
    }
}

/// `place`: of the budget that has no room for the claim until then.
pub(super) fn over(claim: &Claim, place: usize, until: Duration) -> Error {
    let Some(budget) = claim.budgets.get(place) else {
        return Error::new(Class::Budget, "a budget of the day is used up");
    };
    let too_few = || {
        let (Budget { whose, a_day, .. }, (unit, _)) = (budget, claim.most_of(budget.unit));
        let hours = until.as_secs() / 3_600;
        let minutes = until.as_secs() % 3_600 / 60;
        format!(
            "of a day's {a_day} {unit} of {whose} too few are left: the next one begins in {hours} h {minutes} min"
        )
    };
    let what = claim.too_large_for(budget).unwrap_or_else(too_few);
    Error::new(Class::Budget, what)
}
