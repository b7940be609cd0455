//! The event: an immutable JSON record of one thing said, done or decided in a story (wire version 1).
//!
//! Reading never loses anything: fields that this version does not know are kept and written back. An event of an
//! unknown type, or that a later version writes in another way, is carried as it came: readers pass it on, and only who
//! would act on it refuses it.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Agent, Decision, EventId, Payload, StoryId, Traceparent, Unknown};

/// The largest event that is accepted anywhere, in bytes of JSON.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;

/// The most users in an audience, and the bytes of the longest id among them: each answer and each failure names them
/// again, and must itself fit [`MAX_EVENT_BYTES`].
pub const MAX_AUDIENCE: usize = 256;
pub const MAX_USER_BYTES: usize = 64;

/// The steps that one event may cause for an agent.
pub(crate) const MAX_PARTS: u32 = 16;

/// The wire version that this code writes.
pub const VERSION: u32 = 1;

/// One record of a story's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    pub v: u32,
    pub id: EventId,
    #[serde(rename = "type")]
    kind: String,
    pub story: StoryId,
    pub author: Author,
    #[serde(flatten)]
    payload: Payload,
    /// The events that this one answers.
    pub cause: Vec<EventId>,
    /// How many agents have acted since a person did.
    pub hop: u32,
    pub at: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Traceparent>,
    /// The users who may see it; `None` = everyone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<Vec<String>>,
    /// What this version does not know, kept as it came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Who made an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub kind: AuthorKind,
    pub id: String,
    #[serde(default)]
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorKind {
    User,
    Agent,
    /// One that this version does not know, as it came.
    #[serde(untagged)]
    Other(String),
}

/// Why bytes are not an event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the event has {0} bytes; at most {MAX_EVENT_BYTES} are accepted")]
    TooLarge(usize),
    #[error("the event is not valid JSON of an event: {0}")]
    Malformed(String),
}

impl Event {
    /// An event with nothing optional set.
    #[must_use]
    pub fn new(
        id: EventId,
        story: StoryId,
        author: Author,
        payload: Payload,
        at: jiff::Timestamp,
    ) -> Self {
        Self {
            v: VERSION,
            id,
            kind: payload.kind().to_owned(),
            story,
            author,
            payload,
            cause: Vec::new(),
            hop: 0,
            at,
            trace: None,
            audience: None,
            extra: Map::new(),
        }
    }

    /// The id of an agent's response to it: the same in every try, so that the same answer is never published twice.
    /// `part` tells the steps apart that one event causes.
    #[must_use]
    pub fn response(&self, agent: Agent, part: u32) -> EventId {
        self.id.derive(&self.story, agent.as_str(), part, self.at)
    }

    /// Whether it is a person's action that some agent must answer.
    #[must_use]
    pub fn awaits_an_end(&self) -> bool {
        matches!(self.payload, Payload::Action(_)) && self.author.kind == AuthorKind::User
    }

    /// Whether it says of this response, half or wholly generated perhaps, that it will not come: a failure of whoever was to
    /// make it or to judge it, a verdict that blocks it, or what takes back the beat that has a character say it.
    #[must_use]
    pub fn gives_up(&self, response: &EventId) -> bool {
        let failed = match &self.payload {
            Payload::Failed(failed) => failed,
            Payload::Verdict(verdict) => {
                return verdict.decision == Decision::Block && verdict.target == *response;
            }
            Payload::Retracted(it) => {
                return self.is_answer(response, &it.target, Agent::Dialogue.as_str());
            }
            _ => return false,
        };
        let was_judged = failed.agent == Agent::Moderator.as_str();
        let is_of = |cause: &EventId| {
            was_judged && cause == response || self.is_answer(response, cause, &failed.agent)
        };
        self.cause.iter().any(is_of)
    }

    fn is_answer(&self, response: &EventId, cause: &EventId, agent: &str) -> bool {
        let mut parts = 0..MAX_PARTS;
        parts.any(|part| cause.derives(response, &self.story, agent, part))
    }

    /// Whether those who may see it can be named again in each answer, with room for the answer. (In JSON a control
    /// character has six bytes, any other at most twice its own.)
    pub(crate) fn has_a_sane_audience(&self) -> bool {
        let is_sane = |id: &String| id.len() <= MAX_USER_BYTES && !id.contains(char::is_control);
        let ids = self.audience.as_ref();
        ids.is_none_or(|ids| ids.len() <= MAX_AUDIENCE && ids.iter().all(is_sane))
    }

    /// Reads an event that is to be acted on.
    ///
    /// # Errors
    /// Those of [`Self::carry`]; or when it is of another version, or not what its type is in this one.
    pub fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        let event = Self::carry(json)?;
        if !event.has_a_sane_audience() {
            return Err(DecodeError::Malformed(format!(
                "the audience has more than {MAX_AUDIENCE} ids, or one of more than {MAX_USER_BYTES} bytes or with a control character"
            )));
        }
        match &event.payload {
            Payload::Unknown(Unknown {
                foreign: Some(why), ..
            }) => Err(DecodeError::Malformed(why.clone())),
            _ => Ok(event),
        }
    }

    /// Reads an event that is to be shown or passed on, from JSON of at most [`MAX_EVENT_BYTES`]. One that only a later
    /// version understands has the payload [`Payload::Unknown`], whatever its type.
    ///
    /// # Errors
    /// When it is too large, not UTF-8, not JSON, or lacks what every event must have.
    pub fn carry(json: &[u8]) -> Result<Self, DecodeError> {
        if json.len() > MAX_EVENT_BYTES {
            return Err(DecodeError::TooLarge(json.len()));
        }
        serde_json::from_slice(json).map_err(|e| DecodeError::Malformed(e.to_string()))
    }

    /// The JSON that goes into streams and to readers.
    #[must_use]
    pub fn encode(&self) -> String {
        // Maps with string keys and plain numbers only: there is nothing in an event that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("an event is always JSON: {e}"))
    }

    /// The wire name of its type: `action`, `narration` …
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let head = Head::deserialize(from)?;
        let (payload, extra) = if head.v == VERSION {
            Payload::read(&head.kind, head.rest)
        } else {
            let why = format!("wire version {} is not {VERSION}", head.v);
            (Payload::foreign(&head.kind, why), head.rest)
        };
        Ok(Self {
            v: head.v,
            id: head.id,
            kind: head.kind,
            story: head.story,
            author: head.author,
            payload,
            cause: head.cause,
            hop: head.hop,
            at: head.at,
            trace: head.trace,
            audience: head.audience,
            extra,
        })
    }
}

/// What every event has; the rest depends on the type.
#[derive(Deserialize)]
struct Head {
    v: u32,
    id: EventId,
    #[serde(rename = "type")]
    kind: String,
    story: StoryId,
    author: Author,
    #[serde(default)]
    cause: Vec<EventId>,
    #[serde(default)]
    hop: u32,
    at: jiff::Timestamp,
    #[serde(default)]
    trace: Option<Traceparent>,
    #[serde(default)]
    audience: Option<Vec<String>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[cfg(test)]
mod tests;
