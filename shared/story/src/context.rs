//! What an agent knows of a story when it answers: its settings, its people, its lore and its recent history.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ContentPolicy, Event, Rating, Seq};

/// A story as one read of Redis gives it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    pub title: String,
    pub style: String,
    pub premise: String,
    pub summary: String,
    pub policies: Policies,
    #[serde(default, skip_serializing_if = "ContentPolicy::is_default")]
    pub content: ContentPolicy,
    /// The mark that people's texts are fenced with in prompts, known to no player; empty in what was recorded before there
    /// were such marks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fence: String,
    /// In the order of their names, so that the prompt's prefix does not change between turns.
    pub characters: BTreeMap<String, Character>,
    /// Facts of the world by key.
    pub lore: BTreeMap<String, String>,
    /// The log's end, oldest first.
    pub history: Vec<LogEntry>,
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    pub seq: Seq,
    pub event: Event,
}

/// Someone in the story whom an agent can speak for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Character {
    /// Who they are, in a sentence or a few.
    pub description: String,
    /// How they speak.
    #[serde(default)]
    pub voice: String,
}

/// How a story is moderated, and whether it can be replayed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    #[serde(default)]
    pub input: InputPolicy,
    #[serde(default)]
    pub output: OutputPolicy,
    #[serde(default)]
    pub recording: RecordingPolicy,
}

/// What to change of them; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoliciesChange {
    #[serde(default)]
    pub input: Option<InputPolicy>,
    #[serde(default)]
    pub output: Option<OutputPolicy>,
    #[serde(default)]
    pub recording: Option<RecordingPolicy>,
}

impl PoliciesChange {
    /// `policies` as they are then.
    #[must_use]
    pub fn of(self, policies: Policies) -> Policies {
        Policies {
            input: self.input.unwrap_or(policies.input),
            output: self.output.unwrap_or(policies.output),
            recording: self.recording.unwrap_or(policies.recording),
        }
    }
}

impl From<Policies> for PoliciesChange {
    fn from(policies: Policies) -> Self {
        Self {
            input: Some(policies.input),
            output: Some(policies.output),
            recording: Some(policies.recording),
        }
    }
}

/// Whether actions wait for a verdict before anyone sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputPolicy {
    Hold,
    #[default]
    Off,
}

/// Whether responses wait for a verdict, are taken back after one, or are not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputPolicy {
    Hold,
    Retract,
    #[default]
    Off,
}

/// Whether it is kept how each turn of an agent went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingPolicy {
    #[default]
    On,
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{given}': use one of {known}")]
pub struct UnknownPolicy {
    what: &'static str,
    given: String,
    known: &'static str,
}

macro_rules! policy {
    ($policy:ty, $what:literal, $known:literal, $($name:literal => $value:expr),*) => {
        impl FromStr for $policy {
            type Err = UnknownPolicy;
            fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
                match text {
                    $($name => Ok($value),)*
                    _ => Err(UnknownPolicy { what: $what, given: text.chars().take(40).collect(), known: $known }),
                }
            }
        }
        impl $policy {
            #[must_use]
            pub fn as_str(self) -> &'static str {
                $(if self == $value { return $name; })*
                unreachable!("every policy has a name")
            }
        }
    };
}
policy!(InputPolicy, "policy", "hold, off", "hold" => Self::Hold, "off" => Self::Off);
policy!(OutputPolicy, "policy", "hold, retract, off", "hold" => Self::Hold, "retract" => Self::Retract, "off" => Self::Off);
policy!(RecordingPolicy, "policy", "on, off", "on" => Self::On, "off" => Self::Off);
policy!(Rating, "rating", "general, teen, mature", "general" => Self::General, "teen" => Self::Teen, "mature" => Self::Mature);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_one_of_the_known_words() {
        for word in ["hold", "retract", "off"] {
            assert_eq!(word.parse::<OutputPolicy>().unwrap().as_str(), word);
        }
        for word in ["general", "teen", "mature"] {
            assert_eq!(word.parse::<Rating>().unwrap().as_str(), word);
        }
        let error = "retract".parse::<InputPolicy>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown policy 'retract': use one of hold, off"
        );
    }
}
