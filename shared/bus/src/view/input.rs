//! What a view is fed with: pages of the log, running drafts, live messages.

use serde::Deserialize;
use story::{Event, EventId, LogEntry, Seq};

/// A message of a story's live channel.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Message {
    Event {
        seq: Seq,
        event: Box<Event>,
    },
    Delta {
        re: EventId,
        attempt: u32,
        i: u32,
        n: u32,
        text: String,
    },
    Reset {
        re: EventId,
        attempt: u32,
    },
    /// Of a later version: what matters of it is in the log, too.
    #[serde(other)]
    Unknown,
}

impl Message {
    /// Whether its chunks can be counted.
    pub(crate) fn is_countable(&self) -> bool {
        match self {
            Self::Delta { i, n, .. } => i.checked_add(*n).is_some(),
            _ => true,
        }
    }
}

/// One read of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    pub(crate) epoch: String,
    /// The log's last event.
    pub(crate) end: Seq,
    pub(crate) entries: Vec<LogEntry>,
}

/// One read of a story's running drafts, and the log's end at that moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafts {
    pub(crate) end: Seq,
    pub(crate) running: Vec<Running>,
}

#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) re: EventId,
    pub(crate) attempt: u32,
    pub(crate) chunks: Vec<Chunk>,
}

/// A piece of a draft as it was published: `n` chunks from chunk `i`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) i: u32,
    pub(crate) n: u32,
    pub(crate) text: String,
}
