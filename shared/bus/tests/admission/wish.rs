//! A call as tests vary it.

use std::time::Duration;

use bus::{Admitted, Ask, Budget, Bus, Limits, Unit, Used};
use story::StoryId;
use tokio::time::sleep;

use crate::server::story;

const LIFE: Duration = Duration::from_secs(60);
pub(crate) const NO_PAUSE: Duration = Duration::ZERO;

/// A call as tests vary it.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) turn: String,
    pub(crate) number: u32,
    pub(crate) story: StoryId,
    pub(crate) tokens: u64,
    pub(crate) life: Duration,
    pub(crate) limits: Limits,
    pub(crate) budgets: Vec<Budget>,
}

impl Wish {
    /// The first call of a turn.
    pub(crate) fn new(turn: &str, tokens: u64) -> Self {
        Self {
            turn: turn.to_owned(),
            number: 0,
            story: story("castle"),
            tokens,
            life: LIFE,
            limits: Limits::default(),
            budgets: Vec::new(),
        }
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.number = number;
        self
    }

    pub(crate) fn of(mut self, name: &str) -> Self {
        self.story = story(name);
        self
    }

    pub(crate) fn per_minute(mut self, tokens: u64) -> Self {
        self.limits.tokens_per_minute = tokens;
        self
    }

    pub(crate) fn at_once(mut self, at_once: u64) -> Self {
        self.limits.at_once = at_once;
        self
    }

    /// Of tokens a day for its story.
    pub(crate) fn within(mut self, a_day: u64) -> Self {
        self.budgets = vec![Budget {
            unit: Unit::Tokens,
            whose: format!("story:{}", self.story),
            a_day,
        }];
        self
    }

    pub(crate) fn ask<'a>(&'a self, attempt: &'a str) -> Ask<'a> {
        Ask {
            turn: &self.turn,
            number: self.number,
            attempt,
            model: "m",
            story: &self.story,
            most: Used {
                tokens: self.tokens,
                cost: 0,
            },
            life: self.life,
            limits: self.limits,
            budgets: &self.budgets,
        }
    }

    pub(crate) async fn admit(&self, bus: &Bus) -> Admitted {
        bus.admit(&self.ask("1")).await.unwrap()
    }

    pub(crate) async fn settle(&self, bus: &Bus, tokens: u64) -> bool {
        let used = Used { tokens, cost: 0 };
        bus.settle(&self.ask("1"), Some(used), NO_PAUSE)
            .await
            .unwrap()
    }

    /// Until it may go.
    pub(crate) async fn wait(&self, bus: &Bus) {
        loop {
            match self.admit(bus).await {
                Admitted::Go => return,
                Admitted::Wait { again, .. } => sleep(again).await,
                ended @ (Admitted::Over { .. } | Admitted::Stale) => panic!("{ended:?}"),
            }
        }
    }
}
