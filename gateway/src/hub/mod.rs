//! The stories that this node's readers read. Each is watched once, by an actor; all share one subscriber connection.

mod actor;
mod aside;
mod backlog;
mod host;
mod item;
mod memory;
mod pace;
mod queue;
mod reader;
mod room;
mod stories;

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Error, Feeds};
use story::{Cursor, StoryId};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use actor::{Actor, Command};
use room::Rooms;
use stories::Stories;

#[cfg(test)]
pub(crate) use aside::Notice;
#[cfg(test)]
pub(crate) use item::{Item, Told};
pub(crate) use reader::{Delivery, End, Feed, Membership, Reader, Why, reader};
pub(crate) use room::Typist;

/// The events that somebody without a cursor begins with.
pub(crate) const TAIL: usize = 100;
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
    stories: Stories,
    /// Turns to read the log for somebody.
    reads: Arc<Semaphore>,
    /// Unless nobody is to be told who else reads.
    rooms: Option<Arc<Rooms>>,
}

/// How long a story may take to be begun anew, after which whoever asked for it does something else.
const OPENS: Duration = Duration::from_secs(10);

/// Why somebody cannot read a story here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwatched {
    #[error(transparent)]
    Story(Arc<Error>),
    #[error("as many stories are read here as can be: try again, perhaps elsewhere")]
    Full,
    #[error("the story cannot be read yet: try again")]
    Late,
}

impl Hub {
    /// Its tasks run in `tracker` until `end`. It watches at `most` so many stories at the same time.
    pub(crate) fn new(
        bus: Bus,
        metrics: Metrics,
        (tracker, end): (TaskTracker, CancellationToken),
        presence: bool,
        most: usize,
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
            stories: Stories::new(most),
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
    /// There is no such story; or Redis is not reached or refuses; or there are too many stories.
    pub(crate) async fn join(
        self: &Arc<Self>,
        story: &StoryId,
        from: Option<Cursor>,
        (reader, number): (&Reader, u32),
    ) -> Result<Membership, Unwatched> {
        while !self.end.is_cancelled() {
            let (member, membership) = reader.member(number, from.clone());
            let (opened, opens) = oneshot::channel();
            let command = Command::Join(member, Some(opened));
            let start = |start| {
                let started = Actor::start(Arc::clone(self), Arc::new(story.clone()), start);
                self.tracker.spawn(started);
            };
            let (commands, reads) = self.stories.way(story, start).ok_or(Unwatched::Full)?;
            // An actor that has just ended does not take it: its successor does.
            let asked = async { commands.send(command).await.is_ok().then_some(opens.await) };
            let asked = timeout(OPENS, asked).await.map_err(|_| Unwatched::Late)?;
            if let Some(Ok(opened)) = asked {
                opened.map_err(Unwatched::Story)?;
                let seat = self.rooms.as_ref();
                let seat = seat.map(|rooms| rooms.enter(story, (reader, number)));
                return Ok(membership.sits(reads, seat));
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
}
