//! The stories that this node's readers read. Each is watched once, by an actor; all share one subscriber connection.

mod actor;
mod item;
mod memory;
mod reader;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bus::{Bus, Error, Feeds};
use story::{Cursor, StoryId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use actor::{Actor, Command};

#[cfg(test)]
pub(crate) use item::Item;
pub(crate) use reader::{Delivery, End, Feed, Membership, Reader, Why, reader};

/// The events that somebody without a cursor begins with.
pub(crate) const TAIL: usize = 100;
/// Those who join and wait for the actor to see it.
const COMMANDS: usize = 1_024;

/// All stories of this node.
#[derive(Debug)]
pub(crate) struct Hub {
    bus: Bus,
    feeds: Feeds,
    metrics: Metrics,
    tracker: TaskTracker,
    end: CancellationToken,
    stories: Mutex<HashMap<StoryId, mpsc::Sender<Command>>>,
}

impl Hub {
    /// Its tasks run in `tracker` until `end`.
    pub(crate) fn new(
        bus: Bus,
        metrics: Metrics,
        (tracker, end): (TaskTracker, CancellationToken),
    ) -> Arc<Self> {
        Arc::new(Self {
            feeds: bus.feeds(),
            bus,
            metrics,
            tracker,
            end,
            stories: Mutex::default(),
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
    ) -> Result<Membership, Error> {
        loop {
            let (member, membership) = reader.member(number, from.clone());
            let commands = self.story(story).await?;
            let (opened, opens) = oneshot::channel();
            let command = Command::Join(member, Some(opened));
            // An actor that has just ended does not take it: its successor does, or says why there is none.
            if commands.send(command).await.is_ok() && opens.await.is_ok() {
                return Ok(membership);
            }
        }
    }

    /// The way to the actor of a story, which is started if there is none.
    async fn story(self: &Arc<Self>, story: &StoryId) -> Result<mpsc::Sender<Command>, Error> {
        if let Some(commands) = self.stories().get(story) {
            return Ok(commands.clone());
        }
        let (sender, commands) = mpsc::channel(COMMANDS);
        let name = Arc::new(story.clone());
        let actor = Actor::start(self, name, (sender.downgrade(), commands)).await?;
        let mut stories = self.stories();
        // Another one may have been quicker.
        if let Some(commands) = stories.get(story) {
            return Ok(commands.clone());
        }
        stories.insert(story.clone(), sender.clone());
        drop(stories);
        self.tracker.spawn(actor.run());
        Ok(sender)
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
