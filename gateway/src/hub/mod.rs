//! The stories that this node's readers read. Each is watched once, by an actor; all share one subscriber connection.

mod actor;
mod aside;
mod host;
mod item;
mod memory;
mod pace;
mod reader;
mod room;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Bus, Error, Feeds};
use story::{Cursor, StoryId};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use actor::{Actor, Command};
use room::Rooms;

#[cfg(test)]
#[cfg(test)]
pub(crate) use aside::Notice;
#[cfg(test)]
pub(crate) use item::{Item, Told};
pub(crate) use reader::{Delivery, End, Feed, Membership, Reader, Why, reader};
pub(crate) use room::Typist;

/// The events that somebody without a cursor begins with.
pub(crate) const TAIL: usize = 100;
/// Those who join and wait for the actor to see it.
const COMMANDS: usize = 1_024;

/// Readers for whom the log is read at the same time: each takes the memory of a page.
const READS: usize = 32;

/// All stories of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    bus: Bus,
    feeds: Feeds,
    metrics: Metrics,
    tracker: TaskTracker,
    end: CancellationToken,
    stories: Mutex<HashMap<StoryId, mpsc::Sender<Command>>>,
    /// Turns to read the log for somebody.
    reads: Arc<Semaphore>,
    /// Unless nobody is to be told who else reads.
    rooms: Option<Arc<Rooms>>,
}

impl Hub {
    /// Its tasks run in `tracker` until `end`.
    pub(crate) fn new(
        bus: Bus,
        metrics: Metrics,
        (tracker, end): (TaskTracker, CancellationToken),
        presence: bool,
    ) -> Arc<Self> {
        let feeds = bus.feeds();
        let (left, until) = (feeds.clone(), end.clone());
        tracker.spawn(async move { until.run_until_cancelled(left.tidy()).await });
        let rooms = || {
            let (parts, tasks) = ((bus.clone(), feeds.clone()), (tracker.clone(), end.clone()));
            Rooms::new(parts, metrics.clone(), tasks)
        };
        Arc::new(Self {
            rooms: presence.then(rooms),
            feeds,
            bus,
            metrics,
            tracker,
            end,
            stories: Mutex::default(),
            reads: Arc::new(Semaphore::new(READS)),
        })
    }

    /// The subscriptions of this node.
    pub(crate) fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    /// Has `reader` read a story from a cursor on, or without one from its last events on, and calls it `number` there.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub(crate) async fn join(
        self: &Arc<Self>,
        story: &StoryId,
        from: Option<Cursor>,
        (reader, number): (&Reader, u32),
    ) -> Result<Membership, Arc<Error>> {
        while !self.end.is_cancelled() {
            let (member, membership) = reader.member(number, from.clone());
            let (opened, opens) = oneshot::channel();
            let command = Command::Join(member, Some(opened));
            // An actor that has just ended does not take it: its successor does.
            if self.story(story).send(command).await.is_ok()
                && let Ok(opened) = opens.await
            {
                opened?;
                let seat = self.rooms.as_ref();
                let seat = seat.map(|rooms| rooms.enter(story, (reader, number)));
                return Ok(membership.sits(seat));
            }
        }
        // The node ends, and whoever waits with it.
        std::future::pending().await
    }

    /// Whoever else is in the story is told, if possible, that they type. False where it is for somebody else to tell them:
    /// nobody reads the story here.
    pub(crate) fn types(&self, story: &StoryId, typist: Typist) -> bool {
        let rooms = self.rooms.as_ref();
        rooms.is_none_or(|rooms| rooms.types(story, typist))
    }

    /// The way to the actor of a story, which is started if there is none: one start, however many ask for it.
    fn story(self: &Arc<Self>, story: &StoryId) -> mpsc::Sender<Command> {
        let mut stories = self.stories();
        if let Some(commands) = stories.get(story) {
            return commands.clone();
        }
        let (sender, commands) = mpsc::channel(COMMANDS);
        stories.insert(story.clone(), sender.clone());
        drop(stories);
        let way = (sender.downgrade(), commands);
        let started = Actor::start(Arc::clone(self), Arc::new(story.clone()), way);
        self.tracker.spawn(started);
        sender
    }

    /// Whether an actor whom nobody has asked for anything may end.
    fn let_go(&self, story: &StoryId, commands: &mpsc::Receiver<Command>) -> bool {
        let mut stories = self.stories();
        let is_unused = commands.is_empty();
        if is_unused {
            stories.remove(story);
        }
        is_unused
    }

    /// An actor that cannot go on.
    fn forget(&self, story: &StoryId) {
        self.stories().remove(story);
    }

    fn stories(&self) -> MutexGuard<'_, HashMap<StoryId, mpsc::Sender<Command>>> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.stories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
