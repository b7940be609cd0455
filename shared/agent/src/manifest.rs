//! What of a story the prompts of a turn hold, and what was left out and why. Recorded with the turn.

use serde::{Deserialize, Serialize};
use story::{EventId, Seq};

/// What of a context is in the prompts of a turn: what is not here was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The places of the events that are told.
    pub history: Vec<Seq>,
    pub characters: Vec<String>,
    pub lore: Vec<String>,
    /// The waiting events that joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<EventId>,
    /// Where the model's window was known to the turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// How the tokens of a window are used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub window: u64,
    /// What the prompt may have of them: the rest is the answer's, and a margin.
    pub room: usize,
    /// What it has, with all that is around its texts.
    pub used: usize,
    /// In the order in which they are told.
    pub sections: Vec<Section>,
}

/// One kind of what is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    pub tokens: usize,
    /// The most that it could have; none where it is told in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<usize>,
    /// How many items are told, and how many are not.
    pub told: usize,
    pub left: usize,
    /// The first of both kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
}

/// One thing that is told, or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// A name, a key, or a place in the log.
    pub item: String,
    pub tokens: usize,
    pub fate: Fate,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Told,
    /// Its end is told.
    Cut,
    /// Left out: its section's share was full.
    Share,
    /// Left out: it would have more characters than the agent's options allow.
    Characters,
    /// Left out: the whole was more than the window.
    Window,
}

impl Fate {
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Told | Self::Cut)
    }
}
