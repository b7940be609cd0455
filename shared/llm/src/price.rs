//! What tokens cost, in whatever currency the prices are in.

use serde::{Deserialize, Serialize};

use crate::Usage;

/// For a million tokens each. So it is also millionths for one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: f64,
    /// Of the input, what the provider had in its cache; as much as `input` where it is not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<f64>,
    pub output: f64,
}

impl Price {
    /// In millionths, rounded up.
    #[must_use]
    pub fn of(&self, usage: &Usage) -> u64 {
        let new = usage.prompt.saturating_sub(usage.cached);
        let cached = f64::from(usage.cached) * self.cached.unwrap_or(self.input);
        millionths(f64::from(new) * self.input + cached + f64::from(usage.completion) * self.output)
    }

    /// The same of so many tokens without any in the cache.
    #[must_use]
    pub fn at_most(&self, prompt: u64, answer: u64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "no request has 2^52 tokens")]
        let [prompt, answer] = [prompt, answer].map(|tokens| tokens as f64);
        millionths(prompt * self.input + answer * self.output)
    }

    /// What so many millionths are.
    #[must_use]
    pub fn in_units(millionths: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "nothing costs billions")]
        let cost = millionths as f64;
        cost / 1e6
    }

    /// More than any price: what calls cost can be counted.
    pub const MOST: f64 = 1e6;

    /// Whether it is a price at all.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let parts = [Some(self.input), self.cached, Some(self.output)];
        let sound = |part: f64| (0.0..=Self::MOST).contains(&part);
        parts.into_iter().flatten().all(sound)
    }
}

fn millionths(cost: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and no price is negative"
    )]
    let whole = cost.ceil() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        input: 0.15,
        cached: Some(0.075),
        output: 0.6,
    };

    #[test]
    fn what_was_in_the_cache_is_cheaper() {
        let usage = Usage {
            prompt: 1_000,
            cached: 400,
            completion: 100,
            ..Usage::default()
        };
        assert_eq!(PRICE.of(&usage), 90 + 30 + 60);
        let plain = Price {
            cached: None,
            ..PRICE
        };
        assert_eq!(plain.of(&usage), 150 + 60);
        assert_eq!(PRICE.at_most(1_000, 100), 210);
    }

    #[test]
    fn a_part_of_a_millionth_counts_whole() {
        let usage = Usage {
            prompt: 1,
            ..Usage::default()
        };
        assert_eq!(PRICE.of(&usage), 1);
        assert_eq!(PRICE.of(&Usage::default()), 0);
    }

    #[test]
    fn no_price_is_negative_or_endless() {
        for input in [-0.1, f64::NAN, f64::INFINITY, 1_000_000.1] {
            assert!(!Price { input, ..PRICE }.is_sound(), "{input}");
        }
        assert!(PRICE.is_sound());
        let input = Price::MOST;
        assert!(Price { input, ..PRICE }.is_sound());
    }
}
