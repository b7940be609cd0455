//! How many tokens a turn may have of its model's window, and what counts them.

use std::sync::Arc;

use llm::{Counter, Counting, Encoding, Gauge, Request, Usage};
use serde::{Deserialize, Serialize};

use crate::Models;

/// The window of a model that nothing is known of: what small servers give.
const UNKNOWN: u64 = 8_192;

/// The part of the window that nothing is put into: a counter knows neither what a provider adds nor, where it
/// estimates, what a text really has.
const EXACT: u64 = 64;
const ESTIMATED: u64 = 16;

/// The part by which a prompt may have more tokens than is estimated.
const DOUBT: u64 = 4;

/// The window of a model, as it is for one turn.
#[derive(Debug, Clone)]
pub struct Window {
    /// Of prompt and answer together.
    pub tokens: u64,
    /// Kept for an answer whose request sets no limit.
    pub answer: u64,
    /// Nobody told how large it is: what must be told is asked all the same, and the provider knows.
    pub is_assumed: bool,
    pub counter: Counter,
    /// Learns what is counted for later turns.
    gauge: Option<Arc<Gauge>>,
}

/// The same, as recordings have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub tokens: u64,
    pub answer: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_assumed: bool,
    pub counting: Counting,
}

impl Window {
    /// That of the model of this name: as the file of models says, else as its name tells.
    ///
    /// # Errors
    /// Those of the file.
    pub(crate) fn of(models: &Models, name: &str) -> anyhow::Result<Self> {
        let model = models.model(name)?;
        let gauge = Arc::new(Gauge::new(model.tokenizer.or_else(|| Encoding::of(name))));
        let known = model.window.or_else(|| llm::known_window(name));
        Ok(Self {
            tokens: known.unwrap_or(UNKNOWN),
            answer: model.answer(),
            is_assumed: known.is_none(),
            counter: gauge.counter(),
            gauge: Some(gauge),
        })
    }

    /// One that was recorded, or is made up.
    #[must_use]
    pub fn fixed(bounds: Bounds) -> Self {
        Self {
            tokens: bounds.tokens,
            answer: bounds.answer,
            is_assumed: bounds.is_assumed,
            counter: Counter::new(bounds.counting),
            gauge: None,
        }
    }

    /// For a turn that was begun with these: it is as it was, and what is learned is learned here.
    pub(crate) fn again(&self, bounds: Bounds) -> Self {
        Self {
            gauge: self.gauge.clone(),
            ..Self::fixed(bounds)
        }
    }

    #[must_use]
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            tokens: self.tokens,
            answer: self.answer,
            is_assumed: self.is_assumed,
            counting: self.counter.by(),
        }
    }

    /// For a turn that begins now: whatever is learned meanwhile does not change it.
    pub(crate) fn now(&self) -> Self {
        let counter = self.gauge.as_ref().map(|gauge| gauge.counter());
        Self {
            counter: counter.unwrap_or_else(|| self.counter.clone()),
            ..self.clone()
        }
    }

    /// The tokens that a request may have whose answer has at most so many.
    #[must_use]
    pub fn room(&self, answer: Option<u32>) -> usize {
        let answer = answer.map_or(self.answer, u64::from);
        let margin = match self.counter.by() {
            Counting::Exact(_) => self.tokens.div_ceil(EXACT),
            Counting::Estimate(_) => self.tokens.div_ceil(ESTIMATED),
        };
        let room = self.tokens.saturating_sub(answer).saturating_sub(margin);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// The tokens that a request may really have which the counter says has so many.
    #[must_use]
    pub fn at_most(&self, counted: usize) -> u64 {
        let counted = u64::try_from(counted).unwrap_or(u64::MAX);
        match self.counter.by() {
            Counting::Exact(_) => counted,
            Counting::Estimate(_) => counted.saturating_add(counted.div_ceil(DOUBT)),
        }
    }

    /// Loads the tokeniser where that is not done, without holding up what runs beside.
    pub async fn ready(&self) {
        if self.counter.is_ready() {
            return;
        }
        let counter = self.counter.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || counter.load()).await {
            tracing::warn!(%error, "the tokeniser is loaded when it is needed");
        }
    }

    /// Takes into account what the provider counted for `request`.
    pub fn learn(&self, request: &Request, usage: &Usage) {
        if let Some(gauge) = &self.gauge {
            gauge.learn(request, usage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(tokens: u64, counting: Counting) -> [usize; 2] {
        let window = Window::fixed(Bounds {
            tokens,
            answer: 1_000,
            is_assumed: false,
            counting,
        });
        [window.room(None), window.room(Some(400))]
    }

    #[test]
    fn an_answer_and_a_margin_are_kept_free() {
        let (exact, estimate) = (Counting::Exact(Encoding::O200k), Counting::Estimate(333));
        assert_eq!(room(8_192, exact), [8_192 - 128 - 1_000, 8_192 - 128 - 400]);
        assert_eq!(
            room(8_192, estimate),
            [8_192 - 512 - 1_000, 8_192 - 512 - 400]
        );
        assert_eq!(room(600, estimate), [0, 162]);
        assert_eq!(room(0, exact), [0, 0]);
    }

    #[test]
    fn an_estimate_may_be_too_low_by_a_quarter() {
        let window = |counting| {
            Window::fixed(Bounds {
                tokens: 8_192,
                answer: 1_000,
                is_assumed: false,
                counting,
            })
        };
        assert_eq!(window(Counting::Exact(Encoding::O200k)).at_most(401), 401);
        assert_eq!(window(Counting::Estimate(333)).at_most(401), 502);
    }

    #[test]
    fn a_models_file_says_more_than_its_name() {
        let models = Models::parse(
            "models: {gpt-4o: {window: 4000, answer: 300}, mine: {tokenizer: cl100k_base}}",
        )
        .unwrap();
        let bounds = |name| Window::of(&models, name).unwrap().bounds();
        let (o200k, cl100k) = (Encoding::O200k, Encoding::Cl100k);
        for (name, tokens, answer, counting) in [
            ("gpt-4o", 4_000, 300, Counting::Exact(o200k)),
            ("gpt-4o-mini", 128_000, 1_000, Counting::Exact(o200k)),
            ("mine", 8_192, 1_000, Counting::Exact(cl100k)),
            ("tiny", 8_192, 1_000, Counting::Estimate(333)),
        ] {
            let expected = Bounds {
                tokens,
                answer,
                is_assumed: name == "mine" || name == "tiny",
                counting,
            };
            assert_eq!(bounds(name), expected, "{name}");
        }
    }

    #[test]
    fn a_turn_keeps_the_counter_that_it_began_with() {
        let window = Window::of(&Models::default(), "tiny").unwrap();
        let turn = window.now();
        let request = Request {
            messages: vec![llm::Message::user("x".repeat(1_000))],
            ..Request::default()
        };
        let usage = Usage {
            prompt: 1_007,
            known: true,
            ..Usage::default()
        };
        turn.learn(&request, &usage);
        assert_eq!(turn.counter.by(), Counting::Estimate(333));
        assert_eq!(window.now().counter.by(), Counting::Estimate(667));
        let replayed = Window::fixed(turn.bounds());
        replayed.learn(&request, &usage);
        assert_eq!(replayed.now().bounds(), turn.bounds());
    }
}
