//! Which stories are watched here, so many at most: where one more is asked for, some that nobody reads are let go of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use story::StoryId;
use tokio::sync::mpsc;

use crate::hub::actor::Command;

/// Those who join and wait for the actor to see it.
const COMMANDS: usize = 1_024;
/// Stories that are let go of together: to find them all are looked at.
const TOGETHER: usize = 64;

#[derive(Debug)]
pub(crate) struct Stories {
    most: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<StoryId, Entry>,
    /// Of the latest actor. A story may be let go of and watched again before its first actor has ended.
    number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    commands: mpsc::Sender<Command>,
    reads: Reads,
}

/// Somebody reads a story: while they have it the story is not let go of.
#[derive(Debug, Clone)]
pub(crate) struct Reads(Arc<()>);

/// What a new actor is made of.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) number: u64,
    pub(crate) again: mpsc::WeakSender<Command>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

impl Stories {
    pub(crate) fn new(most: usize) -> Self {
        let table = Mutex::default();
        Self { most, table }
    }

    /// The way to the actor of a story. Where there is none, `start` is called. `None` when there is no room.
    pub(crate) fn way(
        &self,
        story: &StoryId,
        start: impl FnOnce(Start),
    ) -> Option<(mpsc::Sender<Command>, Reads)> {
        let mut table = self.table();
        if let Some(entry) = table.all.get(story) {
            if !entry.commands.is_closed() {
                return Some((entry.commands.clone(), entry.reads.clone()));
            }
            // One that died without a word is followed by another.
            table.all.remove(story);
        }
        if table.all.len() >= self.most {
            table.let_some_go();
        }
        if table.all.len() >= self.most {
            return None;
        }
        table.number += 1;
        let (number, reads) = (table.number, Reads(Arc::default()));
        let (sender, commands) = mpsc::channel(COMMANDS);
        let entry = Entry {
            number,
            commands: sender.clone(),
            reads: reads.clone(),
        };
        table.all.insert(story.clone(), entry);
        drop(table);
        let again = sender.downgrade();
        start(Start {
            number,
            again,
            commands,
        });
        Some((sender, reads))
    }

    /// Whether an actor whom nobody has asked for anything may end.
    pub(crate) fn let_go(
        &self,
        (story, number): (&StoryId, u64),
        commands: &mpsc::Receiver<Command>,
    ) -> bool {
        let mut table = self.table();
        let is_unused = commands.is_empty();
        if is_unused {
            table.remove(story, number);
        }
        is_unused
    }

    /// An actor that cannot go on.
    pub(crate) fn forget(&self, story: &StoryId, number: u64) {
        self.table().remove(story, number);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, story: &StoryId, number: u64) {
        let is_it = |entry: &Entry| entry.number == number;
        if self.all.get(story).is_some_and(is_it) {
            self.all.remove(story);
        }
    }

    /// Their actors end, since nobody can ask them for anything any more.
    fn let_some_go(&mut self) {
        let is_unread = |_: &StoryId, entry: &mut Entry| Arc::strong_count(&entry.reads.0) == 1;
        let gone = self.all.extract_if(is_unread).take(TOGETHER).count();
        tracing::debug!(gone, "let go of stories that nobody reads");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> StoryId {
        format!("story-{n}").parse().unwrap()
    }

    #[test]
    fn a_story_that_is_read_keeps_its_place_and_one_that_is_not_makes_room() {
        let stories = Stories::new(2);
        let mut started = Vec::new();
        let (_, one) = stories.way(&id(1), |start| started.push(start)).unwrap();
        let (_, two) = stories.way(&id(2), |start| started.push(start)).unwrap();
        assert!(stories.way(&id(3), |_| panic!("no room")).is_none());
        assert!(stories.way(&id(2), |_| panic!("it is there")).is_some());
        drop(one);
        let three = stories.way(&id(3), |start| started.push(start)).unwrap();
        assert!(started[0].commands.is_closed() && !started[1].commands.is_closed());
        drop((two, three));
        stories.way(&id(1), |start| started.push(start)).unwrap();
        // Its first actor ends only now, and takes nothing from its second.
        stories.forget(&id(1), started[0].number);
        assert!(stories.let_go((&id(1), started[0].number), &started[0].commands));
        assert!(stories.way(&id(1), |_| panic!("it is there")).is_some());
        assert!(!started[3].commands.is_closed());
        stories.forget(&id(1), started[3].number);
        assert!(started[3].commands.is_closed());
    }
}
