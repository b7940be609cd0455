//! Identifiers that can only be made well-formed: stories, events, places in a log.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Agent;
use crate::event::MAX_PARTS;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error(
        "'{0}' is not a story id: use 1 to 64 of a-z, 0-9 and '-', starting with a letter or digit"
    )]
    Story(String),
    #[error("an event id has 1 to 64 bytes without control characters, not {0:?}")]
    Event(String),
}

/// A story's name in keys and URLs: `[a-z0-9][a-z0-9-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct StoryId(String);

impl StoryId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for StoryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| word(b) || b == b'-')
            && text.bytes().next().is_some_and(word);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Story(excerpt(text)))
        }
    }
}

/// An event's name and its idempotency key within the story: 1 to 64 bytes, chosen by whoever makes the event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct EventId(String);

impl EventId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of what `agent` makes of `part` of this event. The same inputs give the same id, so that an event
    /// answered again after a crash, or replayed years later, answers under the same name. Shape: a ULID whose
    /// time is `at` and whose random part is a hash.
    #[must_use]
    pub fn derive(&self, story: &StoryId, agent: &str, part: u32, at: jiff::Timestamp) -> Self {
        let random = self.digest(story, agent, part);
        Self(ulid(at.as_millisecond().max(0).cast_unsigned(), random))
    }

    /// Whether [`Self::derive`] gives `id` for these, at whatever moment.
    #[must_use]
    pub fn derives(&self, id: &Self, story: &StoryId, agent: &str, part: u32) -> bool {
        let derived = ulid(0, self.digest(story, agent, part));
        id.0.len() == derived.len() && id.0.get(TIME_DIGITS..) == derived.get(TIME_DIGITS..)
    }

    fn digest(&self, story: &StoryId, agent: &str, part: u32) -> [u8; 10] {
        let mut hash = Sha256::new();
        for field in [story.as_str(), self.as_str(), agent] {
            hash.update(field.len().to_le_bytes());
            hash.update(field);
        }
        hash.update(part.to_le_bytes());
        let digest = hash.finalize();
        let mut random = [0_u8; 10];
        random.copy_from_slice(&digest[..10]);
        random
    }

    /// A new id from a moment (ms since 1970) and 80 random bits that the caller drew.
    #[must_use]
    pub fn new(millis: u64, random: [u8; 10]) -> Self {
        Self(ulid(millis, random))
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if (1..=64).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Event(excerpt(text)))
        }
    }
}

/// Those of the ids of a story that agents gave to what they made of others among them.
#[must_use]
pub fn responses<'a>(
    story: &StoryId,
    ids: impl Iterator<Item = &'a EventId> + Clone,
) -> HashSet<&'a EventId> {
    let steps = Agent::ALL.map(|agent| (0..MAX_PARTS).map(move |part| (agent, part)));
    let steps: Vec<(Agent, u32)> = steps.into_iter().flatten().collect();
    let hashes = |id: &'a EventId| {
        let steps = steps.iter();
        steps.map(move |(agent, part)| ulid(0, id.digest(story, agent.as_str(), *part)))
    };
    let made: HashSet<String> = ids.clone().flat_map(hashes).collect();
    let timeless = ulid(0, [0; 10]);
    let is_made = |id: &&EventId| {
        let hash =
            id.0.get(TIME_DIGITS..)
                .filter(|_| id.0.len() == timeless.len());
        hash.is_some_and(|hash| made.contains(&(timeless[..TIME_DIGITS].to_owned() + hash)))
    };
    ids.filter(is_made).collect()
}

/// An event's place in its story's log: 1, 2, 3 … without holes; 0 is before the first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

macro_rules! text {
    ($($id:ty),*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl TryFrom<String> for $id {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$id> for String {
            fn from(id: $id) -> String {
                id.0
            }
        }
    )*};
}
text!(StoryId, EventId);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Of a ULID, before its random ones.
const TIME_DIGITS: usize = 10;

/// Crockford base 32 of 48 bits of time and 80 random bits.
fn ulid(millis: u64, random: [u8; 10]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let mut bits = u128::from(millis & 0xFFFF_FFFF_FFFF);
    for byte in random {
        bits = bits << 8 | u128::from(byte);
    }
    (0..26)
        .rev()
        .map(|digit| char::from(DIGITS[(bits >> (digit * 5) & 31) as usize]))
        .collect()
}

/// Enough of a bad id to recognise it, in an error that stays one line.
fn excerpt(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_id_is_a_short_lowercase_name() {
        for good in ["a", "0", "castle-2", &"x".repeat(64)] {
            assert_eq!(good.parse::<StoryId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "Castle",
            "a b",
            "a{1}",
            "é",
            "a\n",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<StoryId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_event_id_has_at_most_64_bytes() {
        assert!("é".repeat(32).parse::<EventId>().is_ok());
        assert!("é".repeat(33).parse::<EventId>().is_err());
        assert!("".parse::<EventId>().is_err());
        assert!("a\u{1b}[2J".parse::<EventId>().is_err());
    }

    #[test]
    fn a_derived_id_depends_on_every_input_and_on_nothing_else() {
        let at: jiff::Timestamp = "2026-11-24T01:02:03.456Z".parse().unwrap();
        let story: StoryId = "castle".parse().unwrap();
        let id: EventId = "e1".parse().unwrap();
        let made = id.derive(&story, "narrator", 0, at);
        insta::assert_snapshot!(made, @"01M85H5Z60EZVPCWRA3GWB3N64");
        assert_eq!(made, id.derive(&story, "narrator", 0, at));
        assert_ne!(made, id.derive(&story, "narrator", 1, at));
        assert_ne!(made, id.derive(&story, "dialogue", 0, at));
        let other: EventId = "e2".parse().unwrap();
        assert_ne!(made, other.derive(&story, "narrator", 0, at));
    }

    #[test]
    fn what_agents_made_is_told_from_what_people_did() {
        let story: StoryId = "castle".parse().unwrap();
        let act = |id: &str| id.parse::<EventId>().unwrap();
        let now = jiff::Timestamp::now();
        let (a, b, sent) = (act("a"), act("b"), EventId::new(7, [3; 10]));
        let narration = a.derive(&story, "narrator", 0, now);
        let lines = [0, 15].map(|part| narration.derive(&story, "dialogue", part, now));
        let elsewhere = a.derive(&"moor".parse().unwrap(), "narrator", 0, now);
        let all = [&a, &b, &sent, &narration, &lines[0], &lines[1], &elsewhere];
        let made = responses(&story, all.into_iter());
        assert_eq!(made, HashSet::from([&narration, &lines[0], &lines[1]]));
    }

    #[test]
    fn a_derived_id_is_known_again_whenever_it_was_made() {
        let story: StoryId = "castle".parse().unwrap();
        let id: EventId = "e1".parse().unwrap();
        let made = id.derive(&story, "narrator", 1, jiff::Timestamp::now());
        assert!(id.derives(&made, &story, "narrator", 1));
        assert!(!id.derives(&made, &story, "narrator", 0));
        assert!(!id.derives(&made, &story, "dialogue", 1));
        for other in ["e1", "01M85H5Z60EZVPCWRA3GWB3N6", "01M85H5Z60é"] {
            assert!(!id.derives(&other.parse().unwrap(), &story, "narrator", 1));
        }
    }
}
