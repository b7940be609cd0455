//! For any interleaving of writers, lost messages, cuts, restarts and failovers, a reader ends with exactly the log, and
//! on the way never has a character of a response twice, or one that is not the response's.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use story::{Author, AuthorKind, Event, EventId, LogEntry, Narration, Payload, Seq, Status};

use super::{Chunk, Drafts, Due, Message, Page, Running, Seen, View};

#[derive(Debug, Clone)]
enum Step {
    /// An event that has no draft.
    Say,
    /// This writer adds some chunks to its response.
    Write {
        writer: usize,
        n: u32,
    },
    /// This writer starts its response anew.
    Reset {
        writer: usize,
    },
    Commit {
        writer: usize,
    },
    /// The reader does this many things.
    Read {
        steps: u8,
    },
    /// The reader's connection drops: what was on its way is lost.
    Disconnect,
    /// The reader's live feed overflows: the oldest messages are lost.
    Overflow {
        messages: usize,
    },
    /// The oldest messages are lost and nobody notices.
    Lose {
        messages: usize,
    },
    /// The reader goes away and another one comes with its cursor.
    Resume,
    /// The last events are lost to a failover; sometimes the whole log.
    Failover {
        lost: usize,
        all: bool,
    },
    /// Retention removes the oldest events.
    Trim {
        keep: usize,
    },
}

#[derive(Default)]
struct Server {
    epoch: u32,
    ids: u32,
    end: u64,
    log: Vec<LogEntry>,
    drafts: BTreeMap<usize, Running>,
    channel: VecDeque<Message>,
}

/// What a person's screen has.
#[derive(Default)]
struct Screen {
    last: Option<u64>,
    events: Vec<EventId>,
    drafts: BTreeMap<EventId, (u32, u32, String)>,
}

impl Server {
    fn id(&mut self) -> EventId {
        self.ids += 1;
        format!("e{}", self.ids).parse().unwrap()
    }

    fn append(&mut self, id: EventId, text: String, attempt: u32) {
        self.end += 1;
        let narration = Narration {
            text,
            choices: Vec::new(),
            speak: Vec::new(),
            status: Status::Complete,
            llm: None,
        };
        let author = Author {
            kind: AuthorKind::Agent,
            id: "narrator".into(),
            name: String::new(),
        };
        let payload = Payload::Narration(narration);
        let story = "castle".parse().unwrap();
        let mut event = Event::new(id, story, author, payload, jiff::Timestamp::UNIX_EPOCH);
        // Here a hop stands for the attempt that was committed.
        event.hop = attempt;
        let seq = Seq(self.end);
        self.log.push(LogEntry {
            seq,
            event: event.clone(),
        });
        let event = Box::new(event);
        self.channel.push_back(Message::Event { seq, event });
    }

    fn write(&mut self, writer: usize, n: u32) {
        if !self.drafts.contains_key(&writer) {
            let re = self.id();
            let (attempt, chunks) = (1, Vec::new());
            self.drafts.insert(
                writer,
                Running {
                    re,
                    attempt,
                    chunks,
                },
            );
        }
        let draft = self.drafts.get_mut(&writer).unwrap();
        let i = draft.chunks.last().map_or(0, |last| last.i + last.n);
        let text: String = (i..i + n)
            .map(|i| format!("<{}.{}.{i}>", draft.re, draft.attempt))
            .collect();
        let (re, attempt) = (draft.re.clone(), draft.attempt);
        draft.chunks.push(Chunk {
            i,
            n,
            text: text.clone(),
        });
        self.channel.push_back(Message::Delta {
            re,
            attempt,
            i,
            n,
            text,
        });
    }

    fn reset(&mut self, writer: usize) {
        if let Some(draft) = self.drafts.get_mut(&writer) {
            draft.attempt += 1;
            draft.chunks.clear();
            let (re, attempt) = (draft.re.clone(), draft.attempt);
            self.channel.push_back(Message::Reset { re, attempt });
        }
    }

    fn commit(&mut self, writer: usize) {
        if let Some(draft) = self.drafts.remove(&writer) {
            let text = text(&draft);
            self.append(draft.re, text, draft.attempt);
        }
    }

    fn failover(&mut self, lost: usize, all: bool) {
        if all {
            self.epoch += 1;
            self.end = 0;
            self.log.clear();
        } else {
            let kept = self.log.len().saturating_sub(lost);
            self.end -= u64::try_from(self.log.len() - kept).unwrap();
            self.log.truncate(kept);
        }
    }

    fn page(&self, after: Seq, limit: usize) -> Page {
        let entries = self.log.iter().filter(|entry| entry.seq > after);
        Page {
            epoch: format!("epoch{}", self.epoch),
            end: Seq(self.end),
            entries: entries.take(limit).cloned().collect(),
        }
    }

    fn drafts(&self) -> Drafts {
        Drafts {
            end: Seq(self.end),
            running: self.drafts.values().cloned().collect(),
        }
    }
}

impl Screen {
    fn show(&mut self, seen: Seen) {
        match seen {
            Seen::Event(LogEntry { seq, event }) => {
                assert!(
                    self.last.is_none_or(|last| last + 1 == seq.0),
                    "a hole or a repetition"
                );
                self.last = Some(seq.0);
                if let Some((attempt, _, text)) = self.drafts.remove(&event.id) {
                    let whole = event.payload().text().unwrap();
                    // An event whose draft began anew unseen stands in the place of what was seen.
                    assert!(
                        attempt < event.hop || whole.starts_with(&text),
                        "{text} does not begin {whole}"
                    );
                }
                self.events.push(event.id);
            }
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => {
                assert!(!self.events.contains(&re), "a chunk after its event");
                let draft = self.drafts.entry(re).or_insert((attempt, 0, String::new()));
                assert_eq!((draft.0, draft.1), (attempt, i), "a chunk out of place");
                draft.1 += n;
                draft.2.push_str(&text);
            }
            Seen::Reset { re, attempt } => {
                assert!(!self.events.contains(&re), "a reset after its event");
                self.drafts.insert(re, (attempt, 0, String::new()));
            }
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => {
                assert!(!self.events.contains(&re), "a snapshot after its event");
                self.drafts.insert(re, (attempt, upto, text));
            }
            Seen::Gap => *self = Self::default(),
        }
    }
}

/// Does the next thing that a reader has to do; false when there is nothing.
fn read(server: &mut Server, view: &mut View, screen: &mut Screen) -> bool {
    if let Some(seen) = view.next() {
        screen.show(seen);
        return true;
    }
    match view.due() {
        Due::Log(after) => view.page(server.page(after, 3)),
        Due::Drafts => view.drafts(server.drafts()),
        Due::Live => match server.channel.pop_front() {
            Some(message) => view.message(message),
            None => return false,
        },
    }
    true
}

fn text(draft: &Running) -> String {
    draft
        .chunks
        .iter()
        .map(|chunk| chunk.text.as_str())
        .collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = 0..2_usize;
    let step = prop_oneof![
        3 => Just(Step::Say),
        10 => (writer.clone(), 1..4_u32).prop_map(|(writer, n)| Step::Write { writer, n }),
        1 => writer.clone().prop_map(|writer| Step::Reset { writer }),
        3 => writer.prop_map(|writer| Step::Commit { writer }),
        12 => (1..8_u8).prop_map(|steps| Step::Read { steps }),
        2 => Just(Step::Disconnect),
        1 => (1..4_usize).prop_map(|messages| Step::Overflow { messages }),
        1 => (1..4_usize).prop_map(|messages| Step::Lose { messages }),
        2 => Just(Step::Resume),
        1 => (1..4_usize, prop::bool::weighted(0.3)).prop_map(|(lost, all)| Step::Failover { lost, all }),
        1 => (1..6_usize).prop_map(|keep| Step::Trim { keep }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_every_character_exactly_once(steps in steps()) {
        let mut server = Server::default();
        let mut view = View::new(None);
        let mut screen = Screen::default();
        for step in steps {
            match step {
                Step::Say => {
                    let id = server.id();
                    server.append(id, "I open the door".into(), 1);
                }
                Step::Write { writer, n } => server.write(writer, n),
                Step::Reset { writer } => server.reset(writer),
                Step::Commit { writer } => server.commit(writer),
                Step::Read { steps } => {
                    for _ in 0..steps {
                        read(&mut server, &mut view, &mut screen);
                    }
                }
                Step::Disconnect => {
                    server.channel.clear();
                    view.read_again();
                }
                Step::Overflow { messages } => {
                    let messages = messages.min(server.channel.len());
                    server.channel.drain(..messages);
                    view.read_again();
                }
                Step::Lose { messages } => {
                    let messages = messages.min(server.channel.len());
                    server.channel.drain(..messages);
                }
                Step::Resume => {
                    let cursor = view.cursor().to_string();
                    server.channel.clear();
                    view = View::new(cursor.parse().ok());
                    if view.cursor().epoch.is_empty() {
                        screen = Screen::default();
                    }
                }
                Step::Failover { lost, all } => {
                    server.failover(lost, all);
                    server.channel.clear();
                    view.read_again();
                }
                Step::Trim { keep } => {
                    let excess = server.log.len().saturating_sub(keep);
                    server.log.drain(..excess);
                }
            }
        }
        // As after some quiet time.
        while read(&mut server, &mut view, &mut screen) {}
        view.read_again();
        let mut left = 10_000;
        while read(&mut server, &mut view, &mut screen) {
            left -= 1;
            prop_assert!(left > 0, "the reader never comes to rest");
        }
        let log: Vec<&EventId> = server.log.iter().map(|entry| &entry.event.id).collect();
        let seen: Vec<&EventId> = screen.events.iter().collect();
        prop_assert!(seen.ends_with(&log) , "{seen:?} is not {log:?}");
        for draft in server.drafts.values() {
            let shown = screen.drafts.get(&draft.re).map(|(_, _, shown)| shown.clone());
            prop_assert_eq!(shown.unwrap_or_default(), text(draft));
        }
    }
}
