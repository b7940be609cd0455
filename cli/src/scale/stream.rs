//! The work stream with its group, and the lanes before it, as the scripts of `shared/bus` keep them: one story's turn at a
//! time, an end deletes its entry. From it come the three numbers that an autoscaler could be told.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// An event's place among all.
pub(crate) type EventAt = u32;

/// An entry of the stream. Ids only grow, as Redis's do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) event: EventAt,
    pub(crate) story: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// What is behind a story's turn; a story without a turn has no row.
    lanes: HashMap<u32, VecDeque<EventAt>>,
    parked: u64,
    waiting: VecDeque<Entry>,
    /// What was given back by a worker that ends: others take it first.
    released: VecDeque<Entry>,
    held: BTreeMap<u64, Entry>,
    last_id: u64,
    /// The newest entry that was ever read, and the newest that was deleted; 0: none.
    read: u64,
    deleted: u64,
}

impl Stream {
    /// An event comes. Gives whether it is in the stream, and not behind its story's turn.
    pub(crate) fn publish(&mut self, event: EventAt, story: u32) -> bool {
        if let Some(lane) = self.lanes.get_mut(&story) {
            lane.push_back(event);
            self.parked += 1;
            return false;
        }
        self.lanes.insert(story, VecDeque::new());
        self.admit(event, story);
        true
    }

    fn admit(&mut self, event: EventAt, story: u32) {
        self.last_id += 1;
        let id = self.last_id;
        self.waiting.push_back(Entry { id, event, story });
    }

    /// The next entry for a worker with room.
    pub(crate) fn take(&mut self) -> Option<Entry> {
        let entry = self.released.pop_front().or_else(|| {
            let entry = self.waiting.pop_front()?;
            self.read = self.read.max(entry.id);
            Some(entry)
        })?;
        self.held.insert(entry.id, entry);
        Some(entry)
    }

    /// An entry ends. Gives the event that has its story's turn now.
    pub(crate) fn end(&mut self, id: u64) -> Option<EventAt> {
        let entry = self.held.remove(&id)?;
        self.deleted = self.deleted.max(id);
        let next = self
            .lanes
            .get_mut(&entry.story)
            .and_then(VecDeque::pop_front);
        match next {
            Some(event) => {
                self.parked -= 1;
                self.admit(event, entry.story);
            }
            None => drop(self.lanes.remove(&entry.story)),
        }
        next
    }

    /// A worker gives an entry back: it is pending still, and nobody works on it.
    pub(crate) fn release(&mut self, id: u64) {
        self.released.extend(self.held.remove(&id));
    }

    /// XLEN.
    pub(crate) fn work(&self) -> u64 {
        size(self.waiting.len()) + self.pending()
    }

    /// XPENDING.
    pub(crate) fn pending(&self) -> u64 {
        size(self.held.len()) + size(self.released.len())
    }

    pub(crate) fn waiting(&self) -> u64 {
        size(self.waiting.len()) + size(self.released.len())
    }

    pub(crate) fn in_flight(&self) -> u64 {
        size(self.held.len())
    }

    pub(crate) fn parked(&self) -> u64 {
        self.parked
    }

    /// `lag` of XINFO GROUPS; `None` is its nil. Redis knows it while nothing at or after the last entry that was read is
    /// deleted, and again once all that was read is gone
    /// (<https://redis.io/docs/latest/commands/xinfo-groups/>).
    pub(crate) fn lag(&self) -> Option<u64> {
        let unread = size(self.waiting.len());
        let knows =
            unread == 0 || self.read == 0 || self.deleted < self.read || self.pending() == 0;
        knows.then_some(unread)
    }
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_story_has_one_turn_and_its_order() {
        let mut stream = Stream::default();
        assert!(stream.publish(0, 7));
        assert!(!stream.publish(1, 7) && !stream.publish(2, 7));
        assert!(stream.publish(3, 8));
        assert_eq!((stream.work(), stream.parked()), (2, 2));
        let first = stream.take().unwrap();
        assert_eq!((first.event, stream.pending(), stream.work()), (0, 1, 2));
        assert_eq!(stream.end(first.id), Some(1));
        assert_eq!((stream.work(), stream.parked()), (2, 1));
        assert_eq!(stream.take().unwrap().event, 3);
    }

    #[test]
    fn lag_is_nil_once_the_newest_that_was_read_is_deleted_and_something_waits() {
        let mut stream = Stream::default();
        for story in 0..4 {
            stream.publish(story, story);
        }
        assert_eq!((stream.lag(), stream.pending()), (Some(4), 0));
        let (first, second) = (stream.take().unwrap(), stream.take().unwrap());
        assert_eq!(stream.lag(), Some(2));
        stream.end(first.id);
        assert_eq!(stream.lag(), Some(2));
        stream.take().unwrap();
        stream.end(second.id);
        assert_eq!(stream.lag(), Some(1), "the newest that was read is there");
        let mut nil = Stream::default();
        (0..4).for_each(|story| _ = nil.publish(story, story));
        let (_first, second) = (nil.take().unwrap(), nil.take().unwrap());
        nil.end(second.id);
        assert_eq!((nil.lag(), nil.work()), (None, 3));
    }

    #[test]
    fn what_is_given_back_comes_first() {
        let mut stream = Stream::default();
        (0..3).for_each(|story| _ = stream.publish(story, story));
        let first = stream.take().unwrap();
        stream.release(first.id);
        assert_eq!(
            (stream.pending(), stream.in_flight(), stream.waiting()),
            (1, 0, 3)
        );
        assert_eq!(stream.take(), Some(first));
    }
}
