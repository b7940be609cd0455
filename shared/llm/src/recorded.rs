//! A call as it is written down: what was asked, and what came of it to the byte and the millisecond. A wire format, never
//! to be changed but by what may be left out.
//!
//! What ended a try and is not in its bytes (a deadline of ours, the network) is kept as the class that it was given;
//! everything else is found out again by the code that reads live answers.

use std::collections::BTreeMap;

use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::wire::Frame;
use crate::{Class, Error, Text};

/// In the place of an API key.
const KEY: &str = "[key]";

/// One call as it went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recorded {
    /// The body of the request, as every try sent it.
    pub request: Box<RawValue>,
    /// The place of the model that was asked among those that the client asks.
    #[serde(default, skip_serializing_if = "is_first")]
    pub line: usize,
    pub tries: Vec<Try>,
    /// The model failed, and the next recorded call asks another one the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moved: bool,
    /// How long a whole answer took; none where there was no such, or where it was not streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<Took>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
fn is_first(line: &usize) -> bool {
    *line == 0
}

/// In ms from the start of the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    pub first_token: u64,
    pub whole: u64,
}

/// One request and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// When it was sent: ms from the start of the call.
    pub at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// It was never sent: it waited for leave.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsent: bool,
    /// Why there is no more of it, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
}

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub class: Class,
    /// As in [`Error::message`].
    pub message: String,
}

/// What of an answer came.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub status: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(flatten)]
    pub body: Text,
    /// The pieces in which the body came: ms from the start of the try, and bytes.
    pub pieces: Vec<(u64, usize)>,
    /// The body came to its end. If not, the try ended before, of what [`Try::failed`] says where its bytes do not.
    pub ended: bool,
}

impl Answer {
    /// The same, with `[key]` where it repeats this key. In one piece, since its pieces were of other lengths.
    pub(crate) fn without(mut self, key: &str) -> Self {
        for value in self.headers.values_mut() {
            *value = value.replace(key, KEY);
        }
        let body = &self.body.0;
        if memmem::find(body, key.as_bytes()).is_some() {
            let mut without = Vec::with_capacity(body.len());
            let mut from = 0;
            for at in memmem::find_iter(body, key.as_bytes()) {
                without.extend_from_slice(&body[from..at]);
                without.extend_from_slice(KEY.as_bytes());
                from = at + key.len();
            }
            without.extend_from_slice(&body[from..]);
            let last = self.pieces.last().map_or(0, |(at, _)| *at);
            self.pieces = vec![(last, without.len())];
            self.body = Text(without);
        }
        self
    }
}

impl Recorded {
    /// A call that a recording knows nothing of.
    pub(crate) fn unanswered(request: Box<RawValue>) -> Self {
        let failed = Failed {
            class: Class::Request,
            message: "the recording has no such call".to_owned(),
        };
        Self {
            request,
            line: 0,
            moved: false,
            tries: vec![Try {
                failed: Some(failed),
                ..Try::default()
            }],
            took: None,
        }
    }

    /// What the last try was told: the text of a streamed answer, else the body as it came.
    #[must_use]
    pub fn text(&self) -> String {
        let answer = self.tries.last().and_then(|last| last.answer.as_ref());
        let body = answer.map_or_else(Default::default, |answer| {
            String::from_utf8_lossy(&answer.body.0)
        });
        let frames: Vec<_> = body
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .collect();
        if frames.is_empty() {
            return body.into_owned();
        }
        let frames = frames
            .into_iter()
            .filter_map(|json| serde_json::from_str::<Frame>(json).ok());
        let choices = frames.filter_map(|frame| frame.choices.0?.delta?.content);
        choices.collect()
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::new(failed.class, failed.message)
    }
}
