//! What an event of each type carries beyond what every event has.

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::{Map, Value};

use crate::EventId;

/// The type of an event with its own fields.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Payload {
    Action(Action),
    Narration(Narration),
    Dialogue(Dialogue),
    Verdict(Verdict),
    Retracted(Retracted),
    Failed(Failed),
    /// What this version does not know: a type, or another form of a known one. The fields are in `Event::extra`.
    Unknown(Unknown),
}

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub mode: Mode,
    #[serde(default)]
    pub text: String,
    /// The character spoken to, for `say`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The id of the choice taken, for `choose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// The event meant, for `regenerate` and `undo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<EventId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Do,
    Say,
    Story,
    Choose,
    Regenerate,
    Undo,
}

/// A beat of the story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Narration {
    pub text: String,
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// Who answers this beat, in order.
    #[serde(default)]
    pub speak: Vec<Speak>,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    pub id: String,
    pub label: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speak {
    pub character: String,
    #[serde(default)]
    pub intent: String,
}

/// What one character says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dialogue {
    pub character: String,
    pub text: String,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmReport>,
}

/// Whether the model came to an end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Complete,
    Truncated,
}

/// What a response cost and how it was made. Times in milliseconds, counts in tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LlmReport {
    pub model: String,
    /// `name@version#sha`
    pub prompt: String,
    #[serde(default)]
    pub tokens_in: u64,
    #[serde(default)]
    pub tokens_cached: u64,
    #[serde(default)]
    pub tokens_out: u64,
    /// In the currency of the price table; absent when the model has no price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    #[serde(default)]
    pub ttft_ms: u64,
    #[serde(default)]
    pub ms: u64,
    #[serde(default)]
    pub tries: u32,
    #[serde(default)]
    pub finish: String,
}

/// What the moderator decided about a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub target: EventId,
    pub stage: Stage,
    pub decision: Decision,
    #[serde(default)]
    pub categories: Vec<String>,
    /// Which tier decided: `rules`, `endpoint`, `llm`.
    pub tier: String,
    /// Words fit for readers.
    #[serde(default)]
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Input,
    Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Allow,
    Flag,
    Block,
}

/// Clients remove the target's text, and no later read shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retracted {
    pub target: EventId,
    #[serde(default)]
    pub reason: String,
}

/// The end of an event that no agent could answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub agent: String,
    /// The error's class: `rate`, `crash`, `undecodable` …
    pub class: String,
    pub tries: u32,
    /// Words fit for readers.
    pub notice: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unknown {
    #[serde(skip)]
    kind: String,
    /// Why it cannot be acted on, when it claims to be what this version knows.
    #[serde(skip)]
    pub(crate) foreign: Option<String>,
}

impl Payload {
    /// The wire name of the type.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Action(_) => "action",
            Self::Narration(_) => "narration",
            Self::Dialogue(_) => "dialogue",
            Self::Verdict(_) => "verdict",
            Self::Retracted(_) => "retracted",
            Self::Failed(_) => "failed",
            Self::Unknown(unknown) => &unknown.kind,
        }
    }

    /// The words that a reader of the story would read, if the type has any.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Action(action) => Some(&action.text),
            Self::Narration(narration) => Some(&narration.text),
            Self::Dialogue(dialogue) => Some(&dialogue.text),
            _ => None,
        }
    }

    pub(crate) fn foreign(kind: &str, why: String) -> Self {
        Self::Unknown(Unknown {
            kind: kind.to_owned(),
            foreign: Some(why),
        })
    }

    /// Takes the fields of `kind` out of `fields`; gives back the payload and what it does not know.
    pub(crate) fn read(kind: &str, fields: Map<String, Value>) -> (Self, Map<String, Value>) {
        let known = match kind {
            "action" => split(fields, Self::Action),
            "narration" => split(fields, Self::Narration),
            "dialogue" => split(fields, Self::Dialogue),
            "verdict" => split(fields, Self::Verdict),
            "retracted" => split(fields, Self::Retracted),
            "failed" => split(fields, Self::Failed),
            _ => {
                let kind = kind.to_owned();
                let foreign = None;
                return (Self::Unknown(Unknown { kind, foreign }), fields);
            }
        };
        known.unwrap_or_else(|(error, fields)| (Self::foreign(kind, error.to_string()), fields))
    }
}

/// A payload, and the fields that it does not know.
type Read = (Payload, Map<String, Value>);

fn split<T: DeserializeOwned>(
    mut fields: Map<String, Value>,
    wrap: impl FnOnce(T) -> Payload,
) -> Result<Read, (serde_json::Error, Map<String, Value>)> {
    let mut known: &[&str] = &[];
    let from = Fields {
        all: &fields,
        known: &mut known,
    };
    match T::deserialize(from) {
        Ok(payload) => {
            fields.retain(|name, _| !known.contains(&name.as_str()));
            Ok((wrap(payload), fields))
        }
        Err(error) => Err((error, fields)),
    }
}

/// Reads a struct and tells which fields it has: what is left is what it does not know. (Two flattened halves would read
/// the same, and copy everything once more.)
struct Fields<'de, 'k> {
    all: &'de Map<String, Value>,
    known: &'k mut &'static [&'static str],
}

impl<'de> Deserializer<'de> for Fields<'de, '_> {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.known = fields;
        self.all.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.all.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
