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
    /// make it or to judge it, or a verdict that blocks it.
    #[must_use]
    pub fn gives_up(&self, response: &EventId) -> bool {
        let failed = match &self.payload {
            Payload::Failed(failed) => failed,
            Payload::Verdict(verdict) => {
                return verdict.decision == Decision::Block && verdict.target == *response;
            }
            _ => return false,
        };
        let was_judged = failed.agent == Agent::Moderator.as_str();
        let is_of = |cause: &EventId| {
            let mut parts = 0..MAX_PARTS;
            was_judged && cause == response
                || parts.any(|part| cause.derives(response, &self.story, &failed.agent, part))
        };
        self.cause.iter().any(is_of)
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ACTION: &str = r#"{"v":1,"id":"01JF","type":"action","story":"castle","author":{"kind":"user","id":"u42","name":"Mira"},"mode":"do","text":"I draw the rusted sword","cause":[],"hop":0,"at":"2026-11-24T01:02:03.456Z"}"#;

    #[test]
    fn an_action_reads_and_writes_as_the_contract_shows_it() {
        let event = Event::decode(ACTION.as_bytes()).unwrap();
        assert_eq!(event.encode(), ACTION);
        assert_eq!(event.kind(), "action");
    }

    #[test]
    fn a_failure_gives_up_the_responses_to_its_causes_and_no_others() {
        let action = Event::decode(ACTION.as_bytes()).unwrap();
        let failed = |agent: &str| {
            let failed = crate::Failed {
                agent: agent.to_owned(),
                class: "provider".to_owned(),
                tries: 3,
                notice: String::new(),
            };
            let (id, author) = ("f".parse().unwrap(), action.author.clone());
            let story = action.story.clone();
            let mut event = Event::new(id, story, author, Payload::Failed(failed), action.at);
            event.cause = vec!["01JE".parse().unwrap(), action.id.clone()];
            event
        };
        for part in [0, MAX_PARTS - 1] {
            let response = action.response(Agent::Narrator, part);
            assert!(failed("narrator").gives_up(&response));
            assert!(!failed("dialogue").gives_up(&response));
            assert!(!action.gives_up(&response));
        }
        assert!(!failed("narrator").gives_up(&action.id));
    }

    #[test]
    fn a_response_that_is_blocked_or_cannot_be_judged_is_given_up() {
        let action = Event::decode(ACTION.as_bytes()).unwrap();
        let response = action.response(Agent::Narrator, 0);
        let of = |fields: &str| {
            let json = format!(
                r#"{{"v":1,"id":"v","story":"castle","author":{{"kind":"agent","id":"moderator"}},"at":"2026-11-24T01:02:03Z",
                "cause":["{response}","{}"],{fields}}}"#,
                action.id
            );
            Event::decode(json.as_bytes()).unwrap()
        };
        let verdict = |decision: &str| {
            of(&format!(
                r#""type":"verdict","target":"{response}","stage":"output","decision":"{decision}","categories":[],"tier":"rules","reason":"""#
            ))
        };
        assert!(verdict("block").gives_up(&response));
        assert!(!verdict("flag").gives_up(&response));
        assert!(!verdict("block").gives_up(&action.id));
        let failed = |agent: &str| {
            of(&format!(
                r#""type":"failed","agent":"{agent}","class":"crash","tries":3,"notice":"""#
            ))
        };
        assert!(failed("moderator").gives_up(&response));
        assert!(
            failed("narrator").gives_up(&response),
            "it answers the action"
        );
        assert!(!failed("dialogue").gives_up(&response));
    }

    #[test]
    fn what_is_not_an_event_says_why() {
        for (json, why) in [
            (ACTION.replace("\"v\":1", "\"v\":2"), "wire version 2"),
            (ACTION.replace("castle", "Castle"), "not a story id"),
            (ACTION.replace("\"mode\":\"do\",", ""), "mode"),
            (ACTION.replace("\"do\"", "\"fly\""), "fly"),
            (ACTION.replace('}', ""), "EOF"),
        ] {
            let error = Event::decode(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(Event::decode(b"\xff{}").is_err());
        let crowd = vec!["u1"; MAX_AUDIENCE + 1];
        let crowded = ACTION.replace("\"cause\"", &format!("\"audience\":{crowd:?},\"cause\""));
        let error = Event::decode(crowded.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("audience"), "{error}");
        let odd = ACTION.replace("\"cause\"", r#""audience":["u\u0001"],"cause""#);
        let error = Event::decode(odd.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("control"), "{error}");
    }

    #[test]
    fn the_largest_audience_leaves_half_of_an_event_to_its_answer() {
        let mut event = Event::decode(ACTION.as_bytes()).unwrap();
        event.audience = Some(vec!["\"".repeat(MAX_USER_BYTES); MAX_AUDIENCE]);
        let bytes = event.encode();
        assert!(Event::decode(bytes.as_bytes()).is_ok());
        assert!(bytes.len() < MAX_EVENT_BYTES / 2 + 2_048, "{}", bytes.len());
    }

    #[test]
    fn what_a_later_version_writes_is_carried_as_it_came_and_not_acted_on() {
        for later in [
            ACTION.replace("\"v\":1", "\"v\":2"),
            ACTION.replace("\"do\"", "\"fly\""),
            ACTION.replace("\"do\"", "{\"how\":\"fly\"}"),
            ACTION.replace("action", "narration"),
        ] {
            let event = Event::carry(later.as_bytes()).unwrap();
            assert!(matches!(event.payload(), Payload::Unknown(_)), "{later}");
            assert_eq!(event.extra["text"], "I draw the rusted sword");
            let (back, came): (Value, Value) = (
                serde_json::from_str(&event.encode()).unwrap(),
                serde_json::from_str(&later).unwrap(),
            );
            assert_eq!(back, came);
            assert!(Event::decode(later.as_bytes()).is_err(), "{later}");
        }
        let bot = ACTION.replace("\"user\"", "\"bot\"");
        let event = Event::decode(bot.as_bytes()).unwrap();
        assert_eq!(event.author.kind, AuthorKind::Other("bot".to_owned()));
        assert_eq!(event.encode(), bot);
    }

    #[test]
    fn an_event_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
        let pad = MAX_EVENT_BYTES - ACTION.len();
        let text = |n: usize| ACTION.replace("rusted", &format!("rusted{}", "x".repeat(n)));
        assert!(Event::decode(text(pad).as_bytes()).is_ok());
        assert!(matches!(
            Event::decode(text(pad + 1).as_bytes()),
            Err(DecodeError::TooLarge(n)) if n == MAX_EVENT_BYTES + 1
        ));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn unknown_fields_and_types_survive_a_round_trip(
            kind in prop_oneof![Just("action".to_owned()), "[a-z]{3,9}x"],
            extra in prop::collection::btree_map("x_[a-z]{1,8}", json(), 0..5),
        ) {
            let mut wire: Map<String, Value> = serde_json::from_str(ACTION).unwrap();
            wire.insert("type".into(), kind.clone().into());
            wire.extend(extra);
            let event = Event::decode(Value::from(wire.clone()).to_string().as_bytes()).unwrap();
            let back: Map<String, Value> = serde_json::from_str(&event.encode()).unwrap();
            prop_assert_eq!(&back, &wire);
            let again = Event::decode(event.encode().as_bytes()).unwrap();
            prop_assert_eq!(again, event);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Event::decode(&bytes);
        }
    }
}
