//! What a story's readers read, as its writers, a failover and retention change it.

use std::collections::{BTreeMap, VecDeque};

use story::{
    Author, AuthorKind, Event, EventId, Failed, LogEntry, Narration, Payload, Seq, Status, StoryId,
};

use crate::view::{Chunk, Message, Running};

const NARRATOR: &str = "narrator";
const AT: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;
/// Events in one page.
const PAGE: usize = 3;

#[derive(Default)]
pub(super) struct Server {
    pub(super) epoch: u32,
    pub(super) ids: u32,
    pub(super) end: u64,
    pub(super) log: Vec<LogEntry>,
    /// The log as if nothing was ever trimmed.
    pub(super) history: BTreeMap<u64, EventId>,
    /// Events that a failover took away.
    pub(super) lost: Vec<EventId>,
    /// Events that something else took out of the log.
    pub(super) destroyed: Vec<EventId>,
    pub(super) drafts: BTreeMap<usize, Running>,
    /// Responses whose drafts a failover took away, by their writers: the next that these write is a new attempt.
    pub(super) orphans: BTreeMap<usize, EventId>,
    /// In seconds.
    clock: u32,
    /// Drafts of events that were given up on.
    pub(super) buried: Vec<Running>,
    /// What each response answers.
    causes: BTreeMap<EventId, EventId>,
    /// The last event that gave each response up.
    pub(super) failures: BTreeMap<EventId, EventId>,
    pub(super) channel: VecDeque<Message>,
    /// A failover that the reader was not told of: from now on it must not miss a message, or nothing would show it.
    pub(super) silent: bool,
}

impl Server {
    pub(super) fn id(&mut self) -> EventId {
        self.ids += 1;
        format!("e{}", self.ids).parse().unwrap()
    }

    pub(super) fn append(&mut self, id: EventId, payload: Payload, attempt: u32) {
        let cause = self.failures.iter().filter(|(_, failure)| **failure == id);
        let cause = cause.map(|(re, _)| self.causes[re].clone()).collect();
        self.end += 1;
        let author = Author {
            kind: AuthorKind::Agent,
            id: NARRATOR.into(),
            name: String::new(),
        };
        let mut event = Event::new(id.clone(), castle(), author, payload, AT);
        // Here a hop stands for the attempt that was committed.
        event.hop = attempt;
        event.cause = cause;
        let seq = Seq(self.end);
        self.history.insert(self.end, id);
        self.log.push(LogEntry {
            seq,
            event: event.clone(),
        });
        let event = Box::new(event);
        self.channel.push_back(Message::Event { seq, event });
    }

    /// As reset.lua and a worker's first attempt: of an attempt that it does not know a server has the time alone.
    fn number(&self, known: u32) -> u32 {
        self.clock.max(known + 1)
    }

    fn begin(&mut self, writer: usize) {
        let re = self.orphans.remove(&writer).unwrap_or_else(|| {
            let cause = self.id();
            let re = cause.derive(&castle(), NARRATOR, 0, AT);
            self.causes.insert(re.clone(), cause);
            re
        });
        let (attempt, chunks) = (self.number(0), Vec::new());
        let draft = Running {
            re,
            attempt,
            chunks,
        };
        self.drafts.insert(writer, draft);
    }

    pub(super) fn write(&mut self, writer: usize, n: u32) {
        if !self.drafts.contains_key(&writer) {
            self.begin(writer);
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

    pub(super) fn reset(&mut self, writer: usize) {
        let known = self.drafts.get(&writer).map(|draft| draft.attempt);
        let attempt = self.number(known.unwrap_or(0));
        if let Some(draft) = self.drafts.get_mut(&writer) {
            draft.attempt = attempt;
            draft.chunks.clear();
            let re = draft.re.clone();
            self.channel.push_back(Message::Reset { re, attempt });
        }
    }

    /// What a writer ends.
    fn ended(&mut self, writer: usize) -> Option<Running> {
        if self.orphans.contains_key(&writer) {
            self.begin(writer);
        }
        self.drafts.remove(&writer)
    }

    pub(super) fn commit(&mut self, writer: usize) {
        if let Some(draft) = self.ended(writer) {
            let text = text(&draft);
            self.append(draft.re, told(text), draft.attempt);
        }
    }

    pub(super) fn bury(&mut self, writer: usize) {
        if let Some(draft) = self.ended(writer) {
            let id = self.id();
            self.failures.insert(draft.re.clone(), id.clone());
            let failed = Failed {
                agent: NARRATOR.into(),
                class: "provider".into(),
                tries: 3,
                notice: String::new(),
            };
            self.append(id, Payload::Failed(failed), draft.attempt);
            self.buried.push(draft);
        }
    }

    pub(super) fn redrive(&mut self, writer: usize) {
        if self.drafts.contains_key(&writer) || self.orphans.contains_key(&writer) {
            return;
        }
        if let Some(mut draft) = self.buried.pop() {
            // The number of attempts is kept when the text goes.
            draft.chunks.clear();
            self.drafts.insert(writer, draft);
            self.reset(writer);
        }
    }

    /// Of a draft that it takes away, too, the other server has not even the name.
    pub(super) fn failover(&mut self, lost: usize, all: bool, drafts: bool) {
        // It takes seconds, and no response has more attempts than one a second.
        let attempts = self.drafts.values().chain(&self.buried);
        let last = attempts.map(|draft| draft.attempt).max();
        self.clock = self.clock.max(last.unwrap_or(0)) + 1;
        if drafts {
            let taken = std::mem::take(&mut self.drafts).into_iter();
            self.orphans
                .extend(taken.map(|(writer, draft)| (writer, draft.re)));
        }
        let lost = if all { self.log.len() } else { lost };
        let kept = self.log.len().saturating_sub(lost);
        if let Some(first) = self.log.drain(kept..).next() {
            self.end = first.seq.0 - 1;
        }
        if all {
            self.epoch += 1;
            self.end = 0;
        }
        let lost = self.history.split_off(&(self.end + 1));
        self.lost.extend(lost.into_values());
    }

    /// Never the last event: that one cannot be told from a count that is ahead. Nor the first: that is retention's.
    pub(super) fn destroy(&mut self, back: usize) {
        if let Some(at) = self.log.len().checked_sub(back + 2).filter(|at| *at > 0) {
            self.destroyed.push(self.log.remove(at).event.id);
        }
    }

    pub(super) fn entries(&self, after: Seq) -> Vec<LogEntry> {
        let entries = self.log.iter().filter(|entry| entry.seq > after);
        entries.take(PAGE).cloned().collect()
    }

    /// Of an attempt that is over there are none.
    pub(super) fn chunks(&self, re: EventId, attempt: u32) -> Running {
        let running = self.drafts.values();
        let mut same = running.filter(|draft| (&draft.re, draft.attempt) == (&re, attempt));
        let chunks = same.next().map(|draft| draft.chunks.clone());
        Running {
            re,
            attempt,
            chunks: chunks.unwrap_or_default(),
        }
    }
}

fn castle() -> StoryId {
    "castle".parse().unwrap()
}

pub(super) fn told(text: String) -> Payload {
    Payload::Narration(Narration {
        text,
        choices: Vec::new(),
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    })
}

pub(super) fn text(draft: &Running) -> String {
    draft
        .chunks
        .iter()
        .map(|chunk| chunk.text.as_str())
        .collect()
}
