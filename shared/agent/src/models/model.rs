//! What is known of one model, and what a day may have.

use std::path::PathBuf;

use anyhow::bail;
use bus::{Budget, Limits, Unit};
use llm::{Encoding, Price};
use serde::Deserialize;

/// The most models that are asked in one's place.
const MOST: usize = 8;

/// One of them, as the file has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Model {
    pub(crate) price: Option<Price>,
    /// Those that are asked in its place where it fails, in this order.
    pub(super) then: Vec<String>,
    /// Where it is served as one of those.
    pub(super) at: Option<String>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) name: Option<String>,
    pub(super) temperature: Option<f32>,
    pub(super) max_tokens: Option<u32>,
    requests_per_minute: Option<u64>,
    pub(super) tokens_per_minute: Option<u64>,
    calls_at_once: Option<u64>,
    answer: Option<u64>,
    pub(crate) window: Option<u64>,
    pub(crate) tokenizer: Option<Encoding>,
    pub(super) per_day: Day,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Each {
    pub(super) per_day: Day,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Day {
    pub(super) tokens: Option<u64>,
    pub(super) cost: Option<f64>,
}

impl Model {
    pub(super) fn check(&self, at: &str) -> anyhow::Result<()> {
        for (field, limit) in [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("calls_at_once", self.calls_at_once),
            ("answer", self.answer),
            ("window", self.window),
            ("max_tokens", self.max_tokens.map(u64::from)),
        ] {
            some(&format!("{at}.{field}"), limit)?;
        }
        if self.window.is_some_and(|window| window <= self.answer()) {
            let answer = self.answer();
            bail!("{at}.window: an answer of {answer} tokens leaves no room in it for a prompt");
        }
        if self.price.is_some_and(|price| !price.is_sound()) {
            let most = Price::MOST;
            bail!("{at}.price: a price is a number, 0 or more, and {most} at most");
        }
        if self
            .temperature
            .is_some_and(|warmth| !(0.0..=2.0).contains(&warmth))
        {
            bail!("{at}.temperature: it is a number from 0 to 2");
        }
        if self.then.len() > MOST {
            bail!("{at}.then: more than {MOST} models, and a call has not so much time");
        }
        self.per_day.check(&format!("{at}.per_day"))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            requests_per_minute: self.requests_per_minute.unwrap_or(0),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(0),
            at_once: self.calls_at_once.unwrap_or(0),
        }
    }

    /// Most tokens of an answer whose request sets no limit.
    pub(crate) fn answer(&self) -> u64 {
        self.answer.unwrap_or(1_000)
    }
}

impl Day {
    pub(super) fn check(&self, at: &str) -> anyhow::Result<()> {
        some(&format!("{at}.tokens"), self.tokens)?;
        match self.cost {
            Some(cost) if !cost.is_finite() || cost < 1e-6 => {
                bail!(
                    "{at}.cost must be more than 0, and 0.000001 at least: leave it out where there is no limit"
                )
            }
            _ => Ok(()),
        }
    }

    pub(super) fn budgets(self, whose: String) -> impl Iterator<Item = Budget> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a millionth at least, and saturates"
        )]
        let cost = self.cost.map(|cost| (cost * 1e6) as u64);
        let each = [(Unit::Tokens, self.tokens), (Unit::Cost, cost)];
        each.into_iter().filter_map(move |(unit, a_day)| {
            let whose = whose.clone();
            a_day.map(|a_day| Budget { unit, whose, a_day })
        })
    }
}

fn some(at: &str, limit: Option<u64>) -> anyhow::Result<()> {
    if limit == Some(0) {
        bail!("{at}: 0 would let nobody through; leave it out where there is no limit");
    }
    Ok(())
}
