//! A reader and its screen. What it asks for comes as the bus reads it: command by command, and writers go on between.

use std::collections::BTreeMap;

use story::{Event, EventId, LogEntry, Payload, Seq};

use super::server::Server;
use crate::view::{Drafts, Due, Page, Seen, View};

/// What the reader has begun to read: each of its commands finds the server as it is by then.
pub(super) enum Reading {
    /// A page, when the first command has told how far the log goes.
    Page { after: Seq, epoch: String, end: Seq },
    /// The drafts by their names; the log's end comes next.
    Names(Vec<(EventId, u32)>),
    /// And then, in another round trip, their chunks.
    Chunks {
        names: Vec<(EventId, u32)>,
        end: Seq,
    },
}

pub(super) struct Reader {
    pub(super) view: View,
    pub(super) reading: Option<Reading>,
    /// Messages were lost, which it notices when it looks for the next.
    pub(super) missed: bool,
    pub(super) screen: Screen,
}

/// What a person's screen has.
#[derive(Default)]
pub(super) struct Screen {
    pub(super) last: Option<u64>,
    pub(super) events: Vec<(u64, EventId)>,
    pub(super) drafts: BTreeMap<EventId, (u32, u32, String)>,
    failures: Vec<Event>,
}

impl Reader {
    pub(super) fn new(view: View, screen: Screen) -> Self {
        Self {
            view,
            reading: None,
            missed: false,
            screen,
        }
    }

    /// Does the next thing that a reader has to do; false when there is nothing.
    pub(super) fn step(&mut self, server: &mut Server) -> bool {
        if let Some(seen) = self.view.next() {
            self.screen.show(seen);
            return true;
        }
        let end = Seq(server.end);
        match self.reading.take() {
            Some(Reading::Page { after, epoch, end }) => {
                let entries = server.entries(after);
                let last = entries.last().map_or(Seq(0), |entry| entry.seq);
                let end = end.max(last);
                self.view.page(Page {
                    epoch,
                    end,
                    entries,
                });
            }
            Some(Reading::Names(names)) if names.is_empty() => {
                let running = Vec::new();
                self.view.drafts(Drafts { end, running });
            }
            Some(Reading::Names(names)) => self.reading = Some(Reading::Chunks { names, end }),
            Some(Reading::Chunks { names, end }) => {
                let running = names.into_iter();
                let running = running.map(|(re, attempt)| server.chunks(re, attempt));
                let running = running.collect();
                self.view.drafts(Drafts { end, running });
            }
            None => return self.begin(server),
        }
        true
    }

    pub(super) fn begin(&mut self, server: &mut Server) -> bool {
        match self.view.due() {
            Due::Log(after) => {
                // Whatever is on its way was written by now.
                server.channel.clear();
                self.missed = false;
                let (epoch, end) = (format!("epoch{}", server.epoch), Seq(server.end));
                self.reading = Some(Reading::Page { after, epoch, end });
            }
            Due::Drafts => {
                let names = server.drafts.values();
                let names = names.map(|draft| (draft.re.clone(), draft.attempt));
                self.reading = Some(Reading::Names(names.collect()));
            }
            Due::Live if std::mem::take(&mut self.missed) => self.view.read_again(),
            Due::Live => match server.channel.pop_front() {
                Some(message) => self.view.message(message),
                None => return false,
            },
        }
        true
    }
}

impl Screen {
    fn has(&self, response: &EventId) -> bool {
        self.events.iter().any(|(_, id)| id == response)
    }

    /// Whether more of this attempt may come.
    fn expects(&self, response: &EventId, attempt: u32) -> bool {
        let mut failures = self.failures.iter();
        let is_over = failures.any(|failed| failed.hop >= attempt && failed.gives_up(response));
        !is_over && !self.has(response)
    }

    pub(super) fn show(&mut self, seen: Seen) {
        match seen {
            Seen::Event(LogEntry { seq, event }) => {
                assert!(self.last.is_none_or(|last| last < seq.0), "a repetition");
                self.last = Some(seq.0);
                if let Some((attempt, _, text)) = self.drafts.remove(&event.id) {
                    let whole = event.payload().text().unwrap();
                    // An event whose draft began anew unseen stands in the place of what was seen.
                    assert!(
                        attempt < event.hop || whole.starts_with(&text),
                        "{text} does not begin {whole}"
                    );
                }
                self.drafts.retain(|re, _| !event.gives_up(re));
                self.events.push((seq.0, event.id.clone()));
                if matches!(event.payload(), Payload::Failed(_)) {
                    self.failures.push(event);
                }
            }
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => {
                assert!(self.expects(&re, attempt), "a chunk after its end");
                let draft = self.drafts.entry(re).or_default();
                // The page does so too: who came back is not told that what they have began anew.
                if draft.0 < attempt {
                    *draft = (attempt, 0, String::new());
                }
                assert_eq!((draft.0, draft.1), (attempt, i), "a chunk out of place");
                draft.1 += n;
                draft.2.push_str(&text);
            }
            Seen::Reset { re, attempt } => {
                assert!(self.expects(&re, attempt), "a reset after its end");
                self.drafts.insert(re, (attempt, 0, String::new()));
            }
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => {
                assert!(self.expects(&re, attempt), "a snapshot after its end");
                self.drafts.insert(re, (attempt, upto, text));
            }
            Seen::Gap => *self = Self::default(),
        }
    }
}
