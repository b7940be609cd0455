//! One thing that a story's readers are given, encoded once for all of them.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use bus::Seen;
use serde::Serialize;
use story::{Cursor, Event, EventId, LogEntry, Payload, Seq, StoryId};
use tokio::time::Instant;

/// What a reader is given next, and the place after it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) story: Arc<StoryId>,
    pub(crate) cursor: Arc<Cursor>,
    pub(crate) seen: Seen,
    /// Responses whose drafts end with it though they never come.
    pub(crate) void: Vec<EventId>,
    /// When it arrived here.
    pub(crate) at: Instant,
    socket: OnceLock<Utf8Bytes>,
    stream: OnceLock<Bytes>,
}

/// What it is on the wire, on a WebSocket and as the data of a server-sent event.
#[derive(Serialize)]
struct Frame<'a> {
    t: &'static str,
    story: &'a StoryId,
    cursor: String,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Event {
        seq: Seq,
        event: &'a Event,
        #[serde(skip_serializing_if = "<[EventId]>::is_empty")]
        void: &'a [EventId],
    },
    Delta {
        re: &'a EventId,
        attempt: u32,
        i: u32,
        n: u32,
        text: &'a str,
    },
    Reset {
        re: &'a EventId,
        attempt: u32,
    },
    Snapshot {
        re: &'a EventId,
        attempt: u32,
        upto: u32,
        text: &'a str,
    },
    Gap {},
}

impl Item {
    pub(crate) fn new(story: Arc<StoryId>, cursor: Arc<Cursor>, seen: Seen) -> Self {
        Self {
            story,
            cursor,
            seen,
            void: Vec::new(),
            at: Instant::now(),
            socket: OnceLock::new(),
            stream: OnceLock::new(),
        }
    }

    /// Where it is a failure: the responses it says will not come, of those that are being generated.
    pub(crate) fn voiding<'a>(mut self, running: impl Iterator<Item = &'a EventId>) -> Self {
        let Seen::Event(LogEntry { event, .. }) = &self.seen else {
            return self;
        };
        let void = running.filter(|re| event.gives_up(re));
        self.void = void.cloned().collect();
        self
    }

    /// Whether this person may see it. What only some may see has no draft.
    pub(crate) fn is_for(&self, sub: &str) -> bool {
        match &self.seen {
            Seen::Event(entry) => {
                let audience = entry.event.audience.as_ref();
                audience.is_none_or(|ids| ids.iter().any(|id| id == sub))
            }
            _ => true,
        }
    }

    /// The type of message.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.seen {
            Seen::Event(entry) if matches!(entry.event.payload(), Payload::Retracted(_)) => {
                "retracted"
            }
            Seen::Event(_) => "event",
            Seen::Delta { .. } => "delta",
            Seen::Reset { .. } => "reset",
            Seen::Snapshot { .. } => "snapshot",
            Seen::Gap => "gap",
        }
    }

    /// The message of a WebSocket.
    pub(crate) fn socket(&self) -> Utf8Bytes {
        self.socket.get_or_init(|| self.json().into()).clone()
    }

    /// The server-sent event. JSON has no line break of its own, so that its data is one line.
    pub(crate) fn stream(&self) -> Bytes {
        let event = || {
            let (kind, cursor, json) = (self.kind(), &self.cursor, self.json());
            format!("event: {kind}\nid: {cursor}\ndata: {json}\n\n").into()
        };
        self.stream.get_or_init(event).clone()
    }

    /// What the memory of it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.socket().len()
    }

    fn json(&self) -> String {
        let body = match &self.seen {
            Seen::Event(entry) => Body::Event {
                seq: entry.seq,
                event: &entry.event,
                void: &self.void,
            },
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => Body::Delta {
                re,
                attempt: *attempt,
                i: *i,
                n: *n,
                text,
            },
            Seen::Reset { re, attempt } => Body::Reset {
                re,
                attempt: *attempt,
            },
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => Body::Snapshot {
                re,
                attempt: *attempt,
                upto: *upto,
                text,
            },
            Seen::Gap => Body::Gap {},
        };
        let frame = Frame {
            t: self.kind(),
            story: &self.story,
            cursor: self.cursor.to_string(),
            body,
        };
        serde_json::to_string(&frame)
            .unwrap_or_else(|e| unreachable!("a frame is always JSON: {e}"))
    }
}
