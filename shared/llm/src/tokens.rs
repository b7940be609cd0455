//! How many tokens a request has, as its provider counts them: exactly where the model's tokeniser is public (OpenAI's),
//! else estimated by its bytes, better with each answer whose usage is told.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
use tiktoken_rs::{CoreBPE, cl100k_base_singleton, o200k_base_singleton};

use crate::{Request, Usage};

/// What a message takes besides its text, and what the answer's beginning takes.
const MESSAGE: usize = 4;
const ANSWER: usize = 3;

/// Tokens of a thousand bytes before any answer told: more than any of the common tokenisers makes of prose.
const UNTOLD: u32 = 333;
/// The fewest and the most that are believed: one for ten bytes, one for each.
const BELIEVED: std::ops::RangeInclusive<u32> = 100..=1_000;
/// Of fewer bytes a ratio says little.
const TELLING: u64 = 200;
/// What part of the way down an estimate goes with an answer. Up it goes half of it: one that is too low costs an answer,
/// one that is too high a few lines of history.
const DOWN: u32 = 32;

/// Those that were asked for.
static O200K: OnceLock<&CoreBPE> = OnceLock::new();
static CL100K: OnceLock<&CoreBPE> = OnceLock::new();

/// Most bytes of texts whose tokens are remembered.
const REMEMBERED: usize = 4 << 20;

/// A tokeniser whose vocabulary the program holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    #[serde(rename = "o200k_base")]
    O200k,
    #[serde(rename = "cl100k_base")]
    Cl100k,
}

/// How tokens are counted. Recorded with each turn, so that a replay counts them likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    Exact(Encoding),
    /// So many for a thousand bytes.
    Estimate(u32),
}

/// Counts tokens in one way. Clones remember together what they counted.
#[derive(Debug, Clone)]
pub struct Counter {
    by: Counting,
    known: Arc<Mutex<Known>>,
}

/// What was counted, so that a text that comes with each turn of a story is not counted with each.
#[derive(Debug, Default)]
struct Known {
    tokens: HashMap<Box<str>, usize>,
    bytes: usize,
}

/// The counters of one model, as good as they are now.
#[derive(Debug)]
pub struct Gauge {
    exact: Option<Encoding>,
    estimate: AtomicU32,
    known: Arc<Mutex<Known>>,
}

/// The tokens that the model of this name takes at once, where that is known.
#[must_use]
pub fn known_window(model: &str) -> Option<u64> {
    let window = tiktoken_rs::model::get_context_size(bare(model))?;
    u64::try_from(window).ok()
}

/// Without the maker that brokers put before it, as in `openai/gpt-4o`.
fn bare(model: &str) -> &str {
    model.rsplit('/').next().unwrap_or(model)
}

impl Encoding {
    /// That of the model of this name.
    #[must_use]
    pub fn of(model: &str) -> Option<Self> {
        match get_tokenizer(bare(model))? {
            Tokenizer::O200kBase | Tokenizer::O200kHarmony => Some(Self::O200k),
            Tokenizer::Cl100kBase => Some(Self::Cl100k),
            _ => None,
        }
    }

    /// Loaded when it is first asked for, once in a process: that takes a part of a second, and tens of MB.
    fn loaded(self) -> &'static CoreBPE {
        let (loaded, load) = match self {
            Self::O200k => (&O200K, o200k_base_singleton as fn() -> &'static CoreBPE),
            Self::Cl100k => (&CL100K, cl100k_base_singleton as fn() -> &'static CoreBPE),
        };
        loaded.get_or_init(load)
    }

    fn is_loaded(self) -> bool {
        match self {
            Self::O200k => O200K.get().is_some(),
            Self::Cl100k => CL100K.get().is_some(),
        }
    }
}

impl Counting {
    /// The same for all workers and all the time, so that what is chosen by it stays chosen: an estimate in coarse steps.
    #[must_use]
    pub fn steady(self) -> Self {
        match self {
            Self::Estimate(tokens) => {
                let steps = [UNTOLD, 500, 750, 1_000];
                Self::Estimate(
                    steps
                        .into_iter()
                        .find(|step| tokens <= *step)
                        .unwrap_or(tokens),
                )
            }
            exact @ Self::Exact(_) => exact,
        }
    }
}

impl Counter {
    #[must_use]
    pub fn new(by: Counting) -> Self {
        Self {
            by,
            known: Arc::default(),
        }
    }

    #[must_use]
    pub fn by(&self) -> Counting {
        self.by
    }

    /// See [`Counting::steady`].
    #[must_use]
    pub fn steady(&self) -> Self {
        Self {
            by: self.by.steady(),
            known: Arc::clone(&self.known),
        }
    }

    /// Whether it can count at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.by {
            Counting::Exact(encoding) => encoding.is_loaded(),
            Counting::Estimate(_) => true,
        }
    }

    /// Loads what counting needs, before it is needed.
    pub fn load(&self) {
        if let Counting::Exact(encoding) = self.by {
            encoding.loaded();
        }
    }

    /// The tokens of `text`. Of an estimate, at least as many for the parts of a text as for the whole.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        match self.by {
            Counting::Estimate(tokens) => {
                let tokens = usize::try_from(tokens).unwrap_or(usize::MAX);
                text.len().saturating_mul(tokens).div_ceil(1_000)
            }
            Counting::Exact(encoding) => lines(text).map(|line| self.line(encoding, line)).sum(),
        }
    }

    /// The tokens of a request with everything around its texts.
    #[must_use]
    pub fn request(&self, request: &Request) -> usize {
        let texts = request.texts().map(|text| MESSAGE + self.count(text));
        texts.sum::<usize>() + ANSWER
    }

    fn line(&self, encoding: Encoding, line: &str) -> usize {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = known().tokens.get(line) {
            return *tokens;
        }
        let tokens = encoding.loaded().count_ordinary(line);
        known().keep(line, tokens);
        tokens
    }
}

/// Those of the same way.
impl PartialEq for Counter {
    fn eq(&self, other: &Self) -> bool {
        self.by == other.by
    }
}

impl Known {
    fn keep(&mut self, line: &str, tokens: usize) {
        if self.bytes + line.len() > REMEMBERED {
            *self = Self::default();
        }
        if line.len() <= REMEMBERED && self.tokens.insert(line.into(), tokens).is_none() {
            self.bytes += line.len();
        }
    }
}

impl Gauge {
    /// Of a model with this tokeniser, or with one that is not known.
    #[must_use]
    pub fn new(exact: Option<Encoding>) -> Self {
        Self {
            exact,
            estimate: AtomicU32::new(UNTOLD),
            known: Arc::default(),
        }
    }

    /// Counts as is best now. What is learned later does not change it.
    #[must_use]
    pub fn counter(&self) -> Counter {
        let estimate = || Counting::Estimate(self.estimate.load(Ordering::Relaxed));
        Counter {
            by: self.exact.map_or_else(estimate, Counting::Exact),
            known: Arc::clone(&self.known),
        }
    }

    /// Takes into account what the provider counted for `request`.
    pub fn learn(&self, request: &Request, usage: &Usage) {
        let bytes: usize = request.texts().map(str::len).sum();
        let around = ANSWER + MESSAGE * request.texts().count();
        let told = usize::try_from(usage.prompt).unwrap_or(usize::MAX);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if self.exact.is_some() || !usage.known || bytes < TELLING || told <= around {
            return;
        }
        let tokens = u64::try_from(told - around).unwrap_or(u64::MAX);
        let ratio = tokens.saturating_mul(1_000).div_ceil(bytes);
        let ratio = u32::try_from(ratio).unwrap_or(u32::MAX);
        let ratio = ratio.clamp(*BELIEVED.start(), *BELIEVED.end());
        let toward = |now: u32| {
            Some(if ratio > now {
                now + (ratio - now).div_ceil(2)
            } else {
                now - (now - ratio) / DOWN
            })
        };
        // The closure always gives a value.
        let _ = self
            .estimate
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, toward);
    }
}

/// `text` in pieces that have as many tokens as the whole: tokenisers split after a line's end wherever the next line
/// begins with neither white space nor `/`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begins = |at: &usize| {
            let next = rest[*at..].chars().next();
            next.is_some_and(|next| !next.is_whitespace() && next != '/')
        };
        let ends = rest.match_indices('\n').map(|(at, _)| at + 1);
        let (line, after) = rest.split_at(ends.into_iter().find(begins).unwrap_or(rest.len()));
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}
