//! One thing that a story's readers are given, encoded once for all of them.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use bus::Seen;
use serde::Serialize;
use story::{Cursor, Event, EventId, Payload, Seq, StoryId};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) enum Told {
    Seen(Box<Seen>),
    /// That they have all there is up to this place, and which responses are being written: of others nothing more comes.
    /// It is no place to come back to.
    Live(Vec<EventId>),
}

/// What a reader is given next, and the place after it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) story: Arc<StoryId>,
    pub(crate) cursor: Arc<Cursor>,
    pub(crate) told: Told,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
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
    Live {
        end: Seq,
        drafts: &'a [EventId],
    },
}

impl Item {
    pub(crate) fn seen(story: Arc<StoryId>, cursor: Arc<Cursor>, seen: Seen) -> Self {
        Self::new(story, cursor, Told::Seen(Box::new(seen)))
    }

    pub(crate) fn new(story: Arc<StoryId>, cursor: Arc<Cursor>, told: Told) -> Self {
        Self {
            story,
            cursor,
            told,
            void: Vec::new(),
            at: Instant::now(),
            socket: OnceLock::new(),
            stream: OnceLock::new(),
        }
    }

    /// The same event, told as what comes after another place.
    pub(crate) fn after(&self, place: Cursor) -> Self {
        let told = match &self.told {
            Told::Seen(seen) => Told::Seen(seen.clone()),
            Told::Live(drafts) => Told::Live(drafts.clone()),
        };
        Self {
            void: self.void.clone(),
            ..Self::new(Arc::clone(&self.story), Arc::new(place), told)
        }
    }

    /// The responses that it says will not come, of those that are being generated or judged.
    pub(crate) fn voiding<'a>(mut self, running: impl Iterator<Item = &'a EventId>) -> Self {
        let Some(event) = self.event() else {
            return self;
        };
        let void = running.filter(|re| event.gives_up(re));
        self.void = void.cloned().collect();
        self
    }

    /// Whether this person may see it. What only some may see has no draft.
    pub(crate) fn is_for(&self, sub: &str) -> bool {
        let audience = self.event().and_then(|event| event.audience.as_ref());
        audience.is_none_or(|ids| ids.iter().any(|id| id == sub))
    }

    pub(crate) fn event(&self) -> Option<&Event> {
        match &self.told {
            Told::Seen(seen) => match &**seen {
                Seen::Event(entry) => Some(&entry.event),
                _ => None,
            },
            Told::Live(_) => None,
        }
    }

    /// Whether its cursor is the reader's place from now on.
    pub(crate) fn is_place(&self) -> bool {
        matches!(self.told, Told::Seen(_))
    }

    /// The type of message.
    pub(crate) fn kind(&self) -> &'static str {
        let Told::Seen(seen) = &self.told else {
            return "live";
        };
        match &**seen {
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
            match self.is_place() {
                true => format!("event: {kind}\nid: {cursor}\ndata: {json}\n\n").into(),
                false => format!("event: {kind}\ndata: {json}\n\n").into(),
            }
        };
        self.stream.get_or_init(event).clone()
    }

    /// What the memory of it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.socket().len()
    }

    fn json(&self) -> String {
        let frame = Frame {
            t: self.kind(),
            story: &self.story,
            cursor: self.is_place().then(|| self.cursor.to_string()),
            body: match &self.told {
                Told::Seen(seen) => body(seen, &self.void),
                Told::Live(drafts) => Body::Live {
                    end: self.cursor.seq,
                    drafts,
                },
            },
        };
        serde_json::to_string(&frame)
            .unwrap_or_else(|e| unreachable!("a frame is always JSON: {e}"))
    }
}

fn body<'a>(seen: &'a Seen, void: &'a [EventId]) -> Body<'a> {
    match seen {
        Seen::Event(entry) => Body::Event {
            seq: entry.seq,
            event: &entry.event,
            void,
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
    }
}
