//! A reader's exact view of one story, without I/O: fed with pages of the log, the running drafts and live messages, it
//! gives each character once and says what it must read next. Its order of work: the log up to its end, then the
//! drafts, then live messages; whatever does not join exactly to what was given sends it back to reading.

mod draft;
mod input;
#[cfg(test)]
mod property;

use std::collections::VecDeque;

use story::{Cursor, Event, EventId, LogEntry, Position, Seq, Tag};

pub(crate) use input::{Chunk, Drafts, Message, Page, Running};

/// How many events back a live message is compared with what was given, and a late chunk is known as late.
const REMEMBERED: usize = 256;

/// What a reader of a story is given.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is handed over: a box would only cost readers a dereference"
)]
pub enum Seen {
    /// When it is a response, its text stands in the place of what was given of it.
    Event(LogEntry),
    /// The next `n` chunks, from chunk `i`, of the response `re`.
    Delta {
        re: EventId,
        attempt: u32,
        i: u32,
        n: u32,
        text: String,
    },
    /// What was given of the response `re` is void: it is generated anew.
    Reset { re: EventId, attempt: u32 },
    /// All of the response `re` up to and without chunk `upto`, in the place of what was given of it.
    Snapshot {
        re: EventId,
        attempt: u32,
        upto: u32,
        text: String,
    },
    /// What was given is another history, or too old to go on from, or an event after it is missing from the log: what
    /// follows starts at the log's beginning.
    Gap,
}

/// What a view needs before it can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A page of the log after this place.
    Log(Seq),
    Drafts,
    /// Nothing but live messages.
    Live,
}

#[derive(Debug)]
pub(crate) struct View {
    /// `None` until the first page.
    epoch: Option<String>,
    place: Seq,
    tag: Tag,
    /// The log may begin anywhere: nothing was given yet that it must join to.
    fresh: bool,
    /// Up to here the last gap stands for every event that is missing.
    told: Seq,
    /// The log's end by its own count, when it was last read to its end. No event may stand there: a count that ran
    /// ahead is not waited for.
    counted: Seq,
    recent: VecDeque<(Seq, EventId)>,
    /// Where the reader is in each draft, those last heard of at the end.
    running: VecDeque<Position>,
    /// The last failures, blocking verdicts and retractions: what they gave up is not taken for new when it comes late.
    failures: VecDeque<Event>,
    due: Due,
    ready: VecDeque<Seen>,
    cursor: Cursor,
}

impl View {
    pub(crate) fn new(cursor: Option<Cursor>) -> Self {
        let fresh = cursor.is_none();
        let cursor = cursor.unwrap_or_else(|| start(String::new()));
        let mut view = Self {
            epoch: (!fresh).then(|| cursor.epoch.clone()),
            place: cursor.seq,
            tag: cursor.tag,
            fresh,
            told: Seq(0),
            counted: Seq(0),
            recent: VecDeque::new(),
            running: cursor.draft.clone().into_iter().collect(),
            failures: VecDeque::new(),
            due: Due::Live,
            ready: VecDeque::new(),
            cursor,
        };
        view.read_again();
        view
    }

    /// From a place on, whatever is missing between it and this end of the log.
    pub(crate) fn anew(place: Cursor, end: Seq) -> Self {
        Self {
            fresh: true,
            told: end,
            ..Self::new(Some(place))
        }
    }

    pub(crate) fn due(&self) -> Due {
        self.due
    }

    /// Whether [`View::next`] has something to give.
    pub(crate) fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The place after everything that [`View::next`] gave.
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    pub(crate) fn next(&mut self) -> Option<Seen> {
        let seen = self.ready.pop_front()?;
        let at = |re: &EventId, attempt, i| {
            let response = re.clone();
            Some(Position {
                response,
                attempt,
                i,
            })
        };
        match &seen {
            Seen::Event(entry) => {
                self.cursor.seq = entry.seq;
                self.cursor.tag = Tag::of(&entry.event.id);
                let event = &entry.event;
                let is_end = |re: &EventId| *re == event.id || event.gives_up(re);
                self.cursor.draft.take_if(|at| is_end(&at.response));
            }
            Seen::Delta {
                re, attempt, i, n, ..
            } => self.cursor.draft = at(re, *attempt, i + n),
            Seen::Snapshot {
                re, attempt, upto, ..
            } => self.cursor.draft = at(re, *attempt, *upto),
            Seen::Reset { re, attempt } => self.cursor.draft = at(re, *attempt, 0),
            Seen::Gap => self.cursor = start(self.epoch.clone().unwrap_or_default()),
        }
        Some(seen)
    }

    /// Messages may have been missed: the log is read on from where the reader is.
    pub(crate) fn read_again(&mut self) {
        // The event at the place itself is read too: that is how another history shows.
        self.due = Due::Log(Seq(self.place.0.saturating_sub(1)));
    }

    /// Takes the page that [`Due::Log`] asked for.
    pub(crate) fn page(&mut self, page: Page) {
        let Due::Log(after) = self.due else {
            return;
        };
        let epoch = self.epoch.get_or_insert_with(|| page.epoch.clone());
        if *epoch != page.epoch || page.end < self.place {
            return self.gap(page.epoch, page.end);
        }
        if self.cursor.epoch.is_empty() {
            self.cursor.epoch.clone_from(&page.epoch);
        }
        let first = page.entries.first();
        let joins = first.is_some_and(|first| first.seq.0 == after.0 + 1);
        if after < self.place && !joins && !self.fresh {
            return self.gap(page.epoch, page.end);
        }
        let (before, empty) = (self.place, page.entries.is_empty());
        for entry in page.entries {
            if !self.entry(entry) {
                return self.gap(page.epoch, page.end);
            }
        }
        let over = self.place == before && after.0 + 1 >= before.0;
        if over && empty && self.place < page.end {
            // Retention left none of the events up to the log's end.
            if !self.fresh {
                return self.gap(page.epoch, page.end);
            }
            self.place = page.end;
        }
        if self.place < page.end && !over {
            self.read_again();
        } else {
            self.counted = page.end;
            self.due = Due::Drafts;
        }
    }

    /// Takes the read that [`Due::Drafts`] asked for.
    pub(crate) fn drafts(&mut self, drafts: Drafts) {
        if drafts.end > self.place.max(self.counted) {
            return self.read_again();
        }
        // What runs no more stays known: its last chunks may be on their way still, and were given.
        for draft in drafts.running {
            self.draft(draft);
        }
        self.due = Due::Live;
    }

    /// Takes a live message. Only of use while nothing else is due: the reads that are due will bring it.
    pub(crate) fn message(&mut self, message: Message) {
        match message {
            Message::Event { seq, event } if seq.0 == self.place.0 + 1 => {
                let event = *event;
                self.give(LogEntry { seq, event });
            }
            Message::Event { seq, .. } if seq > self.place => self.read_again(),
            Message::Event { seq, event } => {
                let known = self.recent.iter().find(|(at, _)| *at == seq);
                if known.is_some_and(|(_, id)| *id != event.id) {
                    // Of another history, or late from one that is over: the log knows.
                    self.due = Due::Log(Seq(seq.0.saturating_sub(1)));
                }
            }
            Message::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => {
                self.delta(&re, attempt, Chunk { i, n, text });
            }
            Message::Reset { re, .. } if self.gave_up(&re) => self.due = Due::Drafts,
            Message::Reset { re, attempt } => {
                self.attempt(&re, attempt);
            }
            Message::Unknown => {}
        }
    }

    /// Takes one entry of the log; false when it does not join to what was given.
    fn entry(&mut self, entry: LogEntry) -> bool {
        let tag = Tag::of(&entry.event.id);
        if entry.seq < self.place {
            let known = self.recent.iter().find(|(at, _)| *at == entry.seq);
            return known.is_none_or(|(_, id)| *id == entry.event.id);
        }
        if entry.seq == self.place {
            self.remember(&entry);
            return tag == self.tag;
        }
        if entry.seq.0 != self.place.0 + 1 && !self.fresh && entry.seq > self.told {
            return false;
        }
        self.give(entry);
        true
    }

    fn give(&mut self, entry: LogEntry) {
        self.place = entry.seq;
        self.tag = Tag::of(&entry.event.id);
        self.fresh = false;
        self.end_drafts(&entry.event);
        self.remember(&entry);
        self.ready.push_back(Seen::Event(entry));
    }

    fn remember(&mut self, entry: &LogEntry) {
        if self.recent.back().is_some_and(|(seq, _)| *seq >= entry.seq) {
            return;
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((entry.seq, entry.event.id.clone()));
    }

    /// Starts anew, and passes over what is missing up to this end of the log: no reader is told of it twice.
    fn gap(&mut self, epoch: String, end: Seq) {
        self.epoch = Some(epoch);
        self.told = end;
        self.counted = Seq(0);
        self.place = Seq(0);
        self.tag = Tag::START;
        self.fresh = true;
        self.recent.clear();
        self.running.clear();
        self.failures.clear();
        self.ready.clear();
        self.ready.push_back(Seen::Gap);
        self.due = Due::Log(Seq(0));
    }
}

fn start(epoch: String) -> Cursor {
    Cursor {
        epoch,
        seq: Seq(0),
        tag: Tag::START,
        draft: None,
    }
}
