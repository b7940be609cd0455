//! What a node remembers of a story: its latest events and the drafts that run, so that whoever returns is given exactly
//! what they miss without a read of Redis. Pure: fed with what a [`bus::Watch`] sees, in its order.

#[cfg(test)]
mod property;

use std::collections::VecDeque;
use std::sync::Arc;

use bus::Seen;
use story::{Cursor, Event, EventId, Payload, Position, Seq, StoryId, Tag};

use crate::hub::item::{Item, Told};

/// The events and their bytes that are remembered at most.
const EVENTS: usize = 256;
const BYTES: usize = 512 * 1024;
/// Drafts that run at once; more are leftovers.
const DRAFTS: usize = 32;

#[derive(Debug)]
pub(crate) struct Memory {
    story: Arc<StoryId>,
    /// The place before the first event that is remembered.
    from: (Seq, Tag),
    /// The event at that place is missing from the log: no earlier place can be gone on from.
    is_after_hole: bool,
    events: VecDeque<Arc<Item>>,
    bytes: usize,
    drafts: Vec<Draft>,
    /// The place after all that was seen.
    at: Arc<Cursor>,
}

/// A response as far as it is generated.
#[derive(Debug)]
struct Draft {
    re: EventId,
    attempt: u32,
    upto: u32,
    text: String,
    /// Where chunks begin in the text.
    marks: Vec<(u32, usize)>,
    /// All of it, for those who have none; made when it is asked for.
    snapshot: Option<Arc<Item>>,
}

/// How somebody with a cursor goes on.
#[derive(Debug)]
pub(crate) enum Join {
    /// With these, and then with all that is seen from now on.
    Here(Vec<Arc<Item>>),
    /// With the log: the place is too long ago to be remembered.
    Log,
    /// Not before the log and the drafts were read again: another node was faster, or it is another history.
    Unknown,
    /// The place is of another history.
    Other,
}

impl Memory {
    /// Begins at a cursor between two events.
    pub(crate) fn new(story: Arc<StoryId>, at: Cursor) -> Self {
        Self {
            story,
            from: (at.seq, at.tag),
            is_after_hole: false,
            events: VecDeque::new(),
            bytes: 0,
            drafts: Vec::new(),
            at: Arc::new(at),
        }
    }

    /// The place before the first event that is remembered.
    pub(crate) fn start(&self) -> Cursor {
        Cursor {
            epoch: self.at.epoch.clone(),
            seq: self.from.0,
            tag: self.from.1,
            draft: None,
        }
    }

    /// Whether it is what comes next, and no event between is missing.
    pub(crate) fn joins(&self, seen: &Seen) -> bool {
        match seen {
            Seen::Event(entry) => entry.seq.0 == self.last().0 + 1,
            _ => true,
        }
    }

    /// Takes what was seen, with the place after it, and gives it as all readers are given it.
    pub(crate) fn see(&mut self, seen: Seen, at: Cursor) -> Arc<Item> {
        self.at = Arc::new(at);
        match &seen {
            Seen::Event(_) => {}
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => self.grow((re, *attempt), *i, i + n, text),
            Seen::Reset { re, attempt } => self.set((re, *attempt), 0, ""),
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => self.set((re, *attempt), *upto, text),
            Seen::Gap => *self = Self::new(Arc::clone(&self.story), Cursor::clone(&self.at)),
        }
        let running = self.drafts.iter().map(|draft| &draft.re);
        let item = Item::seen(Arc::clone(&self.story), Arc::clone(&self.at), seen);
        let item = Arc::new(item.voiding(running));
        if let Some(event) = item.event() {
            let is_over = |re: &EventId| *re == event.id || item.void.contains(re);
            self.drafts.retain(|draft| !is_over(&draft.re));
            self.remember(&item, event);
        }
        item
    }

    /// What ends the way of whoever joins.
    pub(crate) fn live(&self) -> Arc<Item> {
        let drafts = self.drafts.iter().map(|draft| draft.re.clone()).collect();
        let (story, place) = (Arc::clone(&self.story), Arc::new(self.place()));
        Arc::new(Item::new(story, place, Told::Live(drafts)))
    }

    /// The place after the last event, in no draft.
    fn place(&self) -> Cursor {
        Cursor {
            draft: None,
            ..Cursor::clone(&self.at)
        }
    }

    /// How somebody goes on who has everything up to `from`. When the log and the drafts were just read, `sure`, nothing
    /// is left unknown.
    pub(crate) fn join(&mut self, from: &Cursor, sure: bool) -> Join {
        let doubt = |join| if sure { join } else { Join::Unknown };
        if from.epoch != self.at.epoch || from.seq > self.at.seq {
            return doubt(Join::Other);
        }
        if from.seq < self.from.0 {
            return match self.is_after_hole {
                true => doubt(Join::Other),
                false => Join::Log,
            };
        }
        if self.tag(from.seq) != Some(from.tag) {
            return doubt(Join::Other);
        }
        let mut items: Vec<Arc<Item>> = Vec::new();
        let after = self.events.iter();
        items.extend(after.filter(|item| item.cursor.seq > from.seq).cloned());
        let ends = |re: &EventId| items.iter().any(|item| is_end(item, re));
        if let Some(at) = from.draft.as_ref().filter(|at| !ends(&at.response)) {
            let known = self.drafts.iter().find(|draft| draft.re == at.response);
            let behind = known.is_none_or(|draft| (draft.attempt, draft.upto) < (at.attempt, at.i));
            if behind && !sure {
                return Join::Unknown;
            }
        }
        self.add_drafts(from.draft.as_ref(), &mut items);
        Join::Here(items)
    }

    /// The last `count` events and the drafts that run; `None` where the log may have more of them.
    pub(crate) fn tail(&mut self, count: usize) -> Option<Vec<Arc<Item>>> {
        if self.events.len() < count && self.from.0 > Seq(0) && !self.is_after_hole {
            return None;
        }
        let skipped = self.events.len().saturating_sub(count);
        let mut items: Vec<_> = self.events.iter().skip(skipped).cloned().collect();
        self.add_drafts(None, &mut items);
        Some(items)
    }

    /// What somebody misses of the drafts, who is at this place in one of them.
    fn add_drafts(&mut self, at: Option<&Position>, items: &mut Vec<Arc<Item>>) {
        // Places in a draft are places after the last event.
        let place = self.place();
        for draft in &mut self.drafts {
            let at = at.filter(|at| at.response == draft.re && at.attempt == draft.attempt);
            match at.and_then(|at| draft.rest(at.i)) {
                Some("") => {}
                Some(text) => {
                    let i = at.map_or(0, |at| at.i);
                    let seen = Seen::Delta {
                        re: draft.re.clone(),
                        attempt: draft.attempt,
                        i,
                        n: draft.upto - i,
                        text: text.to_owned(),
                    };
                    let cursor = draft.place(&place);
                    items.push(Arc::new(Item::seen(Arc::clone(&self.story), cursor, seen)));
                }
                None => items.push(draft.snapshot(&self.story, &place)),
            }
        }
    }

    /// For whoever comes back. They may have nothing of the draft that those who stayed are in.
    fn remember(&mut self, item: &Arc<Item>, event: &Event) {
        let item = match &item.cursor.draft {
            Some(_) => Arc::new(item.after(self.place())),
            None => Arc::clone(item),
        };
        let before = Seq(item.cursor.seq.0.saturating_sub(1));
        if self.last() != before {
            // What is before a hole joins to nothing.
            (self.events, self.bytes) = (VecDeque::new(), 0);
            (self.from, self.is_after_hole) = ((before, Tag::START), true);
        }
        self.bytes += item.bytes();
        self.events.push_back(item);
        if let Payload::Retracted(retracted) = event.payload() {
            self.forget_up_to(&retracted.target);
        }
        while self.events.len() > EVENTS || self.bytes > BYTES {
            self.forget_first();
        }
    }

    /// Its words are not to be given any more. The log has what is left of it.
    fn forget_up_to(&mut self, id: &EventId) {
        let is_it = |item: &Arc<Item>| item.event().is_some_and(|event| event.id == *id);
        if let Some(index) = self.events.iter().position(is_it) {
            for _ in 0..=index {
                self.forget_first();
            }
        }
    }

    fn forget_first(&mut self) {
        if let Some(item) = self.events.pop_front() {
            self.bytes = self.bytes.saturating_sub(item.bytes());
            self.from = (item.cursor.seq, item.cursor.tag);
            self.is_after_hole = false;
        }
    }

    fn last(&self) -> Seq {
        let last = self.events.back();
        last.map_or(self.from.0, |item| item.cursor.seq)
    }

    fn tag(&self, seq: Seq) -> Option<Tag> {
        if seq == self.from.0 {
            return Some(self.from.1);
        }
        let mut items = self.events.iter();
        let item = items.find(|item| item.cursor.seq == seq);
        item.map(|item| item.cursor.tag)
    }

    fn grow(&mut self, (re, attempt): (&EventId, u32), i: u32, upto: u32, text: &str) {
        let known = self.drafts.iter_mut().find(|draft| draft.re == *re);
        match known {
            Some(draft) if draft.attempt == attempt && draft.upto == i => {
                draft.text.push_str(text);
                draft.marks.push((upto, draft.text.len()));
                draft.upto = upto;
                draft.snapshot = None;
            }
            _ => self.set((re, attempt), upto, text),
        }
    }

    fn set(&mut self, (re, attempt): (&EventId, u32), upto: u32, text: &str) {
        self.drafts.retain(|draft| draft.re != *re);
        if self.drafts.len() == DRAFTS {
            self.drafts.remove(0);
        }
        self.drafts.push(Draft {
            re: re.clone(),
            attempt,
            upto,
            text: text.to_owned(),
            marks: vec![(0, 0), (upto, text.len())],
            snapshot: None,
        });
    }
}

impl Draft {
    /// The text from this chunk on, if it begins here.
    fn rest(&self, i: u32) -> Option<&str> {
        let mark = self.marks.binary_search_by_key(&i, |(i, _)| *i).ok()?;
        self.text.get(self.marks[mark].1..)
    }

    fn place(&self, after: &Cursor) -> Arc<Cursor> {
        let draft = Some(Position {
            response: self.re.clone(),
            attempt: self.attempt,
            i: self.upto,
        });
        Arc::new(Cursor {
            draft,
            ..after.clone()
        })
    }

    fn snapshot(&mut self, story: &Arc<StoryId>, after: &Cursor) -> Arc<Item> {
        let still = self.snapshot.take();
        let item = still
            .filter(|item| item.cursor.seq == after.seq)
            .unwrap_or_else(|| {
                let seen = Seen::Snapshot {
                    re: self.re.clone(),
                    attempt: self.attempt,
                    upto: self.upto,
                    text: self.text.clone(),
                };
                Arc::new(Item::seen(Arc::clone(story), self.place(after), seen))
            });
        self.snapshot = Some(Arc::clone(&item));
        item
    }
}

/// Whether the draft of a response ends with it.
fn is_end(item: &Item, re: &EventId) -> bool {
    item.event().is_some_and(|event| event.id == *re) || item.void.contains(re)
}
