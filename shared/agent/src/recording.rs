//! How a turn went: all that an agent was given, what it asked the model and was told, and what it made of it. Kept with
//! the commit, for `replay`. A wire format: whoever reads it takes older versions too.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bus::Keep;
use llm::Text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use story::{Context, Event};
use zstd::bulk::Compressor;

use crate::{Bounds, Effects, HandleError, Turn};

/// The version that is written. One of version 1 has every answer's body as it came.
pub const VERSION: u32 = 2;
/// The most bytes of one, compressed: what has more is not kept.
pub const MAX_BYTES: usize = 128 * 1024;
/// The same before, and of all answers' bodies: what is read again must fit into memory.
pub(crate) const MAX_JSON: usize = 16 << 20;
/// The next faster one takes 0.6 of its time and 1.3 of its bytes, which Redis holds in memory and writes to its disk.
const LEVEL: i32 = 1;

/// One turn as it went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recording<'a> {
    pub v: u32,
    pub agent: story::Agent,
    pub event: Cow<'a, Event>,
    pub part: u32,
    pub held: bool,
    pub context: Cow<'a, Context>,
    /// What waited behind the event and could join it.
    pub waiting: Cow<'a, [Event]>,
    pub now: jiff::Timestamp,
    pub made_with: Cow<'a, MadeWith>,
    pub calls: Vec<llm::Recorded>,
    /// One of these two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effects: Option<Cow<'a, Effects>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
}

/// What an agent was made with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MadeWith {
    /// The program's version.
    pub version: String,
    pub model: String,
    /// Whether `[DONE]` without a reason was an end.
    pub accept_done: bool,
    /// What the model's tokens cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<llm::Price>,
    /// How models were asked, and what others than the first one cost, in the order in which they were; empty = one, as the
    /// prompts say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Link>,
    /// The model's window, and how its tokens were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Bounds>,
    /// The agent's own options.
    pub options: Value,
    /// `name@version#sha` of each prompt.
    pub prompts: Vec<String>,
}

/// A model that was asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    #[serde(flatten)]
    pub manner: llm::Manner,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<llm::Price>,
}

/// How a turn failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: String,
    pub tries: u32,
    pub notice: String,
}

/// Why bytes are no recording.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the recording cannot be unpacked")]
    Packed(#[source] std::io::Error),
    #[error(
        "the recording is of version {0}, and this program reads up to {VERSION}: use a newer one"
    )]
    Version(u32),
    #[error("the recording cannot be read")]
    Json(#[source] serde_json::Error),
}

impl<'a> Recording<'a> {
    /// What became of `turn`.
    #[must_use]
    pub fn new(
        turn: &'a Turn,
        made_with: &'a MadeWith,
        calls: Vec<llm::Recorded>,
        ended: Result<&'a Effects, &HandleError>,
    ) -> Self {
        Self {
            v: VERSION,
            agent: turn.agent,
            event: Cow::Borrowed(&turn.event),
            part: turn.part,
            held: turn.held,
            context: Cow::Borrowed(&turn.context),
            waiting: Cow::Borrowed(&turn.waiting),
            now: turn.now,
            made_with: Cow::Borrowed(made_with),
            calls,
            effects: ended.ok().map(Cow::Borrowed),
            failed: ended.err().map(Failure::from),
        }
    }

    /// The same, for whoever keeps it.
    #[must_use]
    pub fn into_owned(self) -> Recording<'static> {
        Recording {
            v: self.v,
            agent: self.agent,
            event: Cow::Owned(self.event.into_owned()),
            part: self.part,
            held: self.held,
            context: Cow::Owned(self.context.into_owned()),
            waiting: Cow::Owned(self.waiting.into_owned()),
            now: self.now,
            made_with: Cow::Owned(self.made_with.into_owned()),
            calls: self.calls,
            effects: self.effects.map(|effects| Cow::Owned(effects.into_owned())),
            failed: self.failed,
        }
    }

    /// The tokens that the turn cost: as the provider counted them, else one for four bytes.
    pub(crate) fn cost(&self) -> u64 {
        let spent = self.effects.iter().flat_map(|effects| &effects.spent);
        let spent = spent.flat_map(|call| [call.tokens_in, call.tokens_out]);
        match spent.fold(0, u64::saturating_add) {
            0 => {
                let bytes = self.calls.iter().map(|call| {
                    let asked = call.request.get().len() * call.tries.len().max(1);
                    asked + call.text().len()
                });
                u64::try_from(bytes.sum::<usize>()).map_or(u64::MAX, |bytes| bytes.div_ceil(4))
            }
            counted => counted,
        }
    }

    /// The bytes of all answers.
    fn bodies(&self) -> usize {
        let tries = self.calls.iter().flat_map(|call| &call.tries);
        let answers = tries.filter_map(|made| made.answer.as_ref());
        answers.map(|answer| answer.body.0.len()).sum()
    }

    /// # Errors
    /// When it is of a later version, or no recording.
    pub fn read(json: &[u8]) -> Result<Recording<'static>, Error> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(Error::Json)?;
        if head.v > VERSION {
            return Err(Error::Version(head.v));
        }
        let read = || serde_json::from_slice(json).map_err(Error::Json);
        Text::within(MAX_JSON, read)
    }

    /// The JSON of what [`Packer::pack_json`] gave.
    ///
    /// # Errors
    /// When it is something else, or grows beyond all measure.
    pub fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        zstd::bulk::decompress(bytes, MAX_JSON).map_err(Error::Packed)
    }
}

impl Default for Packer {
    /// As a worker has it that is told nothing else.
    fn default() -> Self {
        Self::new(1_000, Duration::from_secs(30 * 24 * 60 * 60))
    }
}

impl From<&HandleError> for Failure {
    fn from(error: &HandleError) -> Self {
        Self {
            class: error.class.to_owned(),
            tries: error.tries,
            notice: error.notice.clone(),
        }
    }
}

/// Makes recordings small.
pub struct Packer {
    pub keep: Keep,
    benches: Mutex<Vec<Bench>>,
}

/// What one recording at a time is packed with. It is used again, since to make and drop it each time costs more than the
/// packing.
struct Bench {
    compressor: Compressor<'static>,
    json: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// For so many turns of a story, none older than this.
    #[must_use]
    pub fn new(turns: u32, age: Duration) -> Self {
        Self {
            keep: Keep { turns, age },
            benches: Mutex::default(),
        }
    }

    /// `None`: it has too many bytes.
    pub(crate) fn pack(&self, recording: &Recording<'_>) -> std::io::Result<Option<Vec<u8>>> {
        if recording.bodies() > MAX_JSON {
            return Ok(None);
        }
        self.at_a_bench(|bench| {
            bench.json.clear();
            serde_json::to_writer(&mut bench.json, recording)?;
            bench.pack()
        })
    }

    /// The same of its JSON.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn pack_json(&self, json: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
        self.at_a_bench(|bench| {
            json.clone_into(&mut bench.json);
            bench.pack()
        })
    }

    fn at_a_bench<T>(
        &self,
        work: impl FnOnce(&mut Bench) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let benches = || self.benches.lock().unwrap_or_else(PoisonError::into_inner);
        let free = benches().pop();
        let mut bench = free.map_or_else(Bench::new, Ok)?;
        let worked = work(&mut bench);
        // One that grew for a giant is not kept.
        if bench.json.capacity() <= MAX_BYTES {
            benches().push(bench);
        }
        worked
    }
}

impl Bench {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            compressor: Compressor::new(LEVEL)?,
            json: Vec::new(),
            packed: Vec::new(),
        })
    }

    fn pack(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if self.json.len() > MAX_JSON {
            return Ok(None);
        }
        self.packed.clear();
        self.packed
            .reserve(zstd::zstd_safe::compress_bound(self.json.len()));
        self.compressor
            .compress_to_buffer(&self.json, &mut self.packed)?;
        Ok((self.packed.len() <= MAX_BYTES).then(|| self.packed.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(json: &[u8]) -> Option<usize> {
        let packed = Packer::default().pack_json(json).unwrap()?;
        assert_eq!(Recording::unpacked(&packed).unwrap(), json);
        Some(packed.len())
    }

    #[test]
    fn one_of_version_1_is_read_and_written_as_one_of_now() {
        let old = include_str!("recording/v1.json");
        assert!(old.contains(r#""body":"data: {"#) && !old.contains("folded"));
        let read = Recording::read(old.as_bytes()).unwrap();
        assert!(read.calls[0].text().ends_with('.'), "{:?}", read.calls);
        let now = serde_json::to_string(&read).unwrap();
        assert!(now.contains("folded") && now.len() < old.len() * 2 / 3);
        let again = Recording::read(now.as_bytes()).unwrap();
        let bodies = |turn: &Recording<'_>| turn.calls[0].tries.clone();
        assert_eq!(bodies(&again), bodies(&read));
    }

    #[test]
    fn answers_that_nobody_could_read_again_are_not_kept() {
        let old = include_str!("recording/v1.json");
        let mut turn = Recording::read(old.as_bytes()).unwrap();
        let mut packs = |more: usize| {
            let answer = |turn: &mut Recording<'_>, bytes: usize| {
                let answer = turn.calls[0].tries[0].answer.as_mut().unwrap();
                let block = format!("data: {{{}}}\n\n", " ".repeat(500));
                let mut body = block.repeat(bytes / block.len() + 1).into_bytes();
                body.truncate(bytes);
                answer.body = Text(body);
            };
            answer(&mut turn, 0);
            let others = turn.bodies();
            answer(&mut turn, MAX_JSON - others + more);
            Packer::default().pack(&turn).unwrap()
        };
        let packed = packs(0).unwrap();
        let json = Recording::unpacked(&packed).unwrap();
        assert_eq!(Recording::read(&json).unwrap().bodies(), MAX_JSON);
        assert_eq!(packs(1), None);
    }

    #[test]
    fn what_is_too_large_is_not_kept() {
        // It packs well, and would be too much for whoever reads it.
        assert!(packs(&vec![b' '; MAX_JSON]).is_some());
        assert_eq!(packs(&vec![b' '; MAX_JSON + 1]), None);
        // It does not pack at all: zstd adds some bytes.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(MAX_BYTES)
        .collect();
        let added = packs(&noise[..1_000]).unwrap() - 1_000;
        assert!(added < 32, "{added}");
        assert!(packs(&noise[..MAX_BYTES - 32]).is_some());
        assert_eq!(packs(&noise), None);
    }
}
