//! One who reads stories: the queue of what they are given, and why it may end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use story::Cursor;
use tokio::time::{Instant, timeout_at};

use crate::auth::Identity;
use crate::hub::aside::Notice;
use crate::hub::item::Item;
pub(crate) use crate::hub::queue::Given;
use crate::hub::queue::{Queue, Turn};
use crate::hub::room::Occupied;
use crate::hub::stories::Reads;
use crate::metrics::{Joined, Metrics};

/// A reader who takes nothing for so long is slow.
const SLOW: Duration = Duration::from_secs(10);

/// What a reader is given, with the number that they know the story by.
#[derive(Debug)]
pub(crate) enum Delivery {
    Item(Place, Arc<Item>),
    /// Of what they may miss.
    Notice(u32, Arc<Notice>),
}

/// Of an item among those that a reader is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    number: u32,
    /// It was given as it came, and not because it was missed.
    is_live: bool,
}

#[cfg(test)]
impl Place {
    pub(crate) fn live(number: u32) -> Self {
        Self {
            number,
            is_live: true,
        }
    }
}

/// Where what a reader is given goes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) sub: Arc<str>,
    /// As others in a story see it.
    pub(crate) name: Arc<str>,
    queue: Arc<Queue>,
}

/// Why nothing more is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Took nothing for too long.
    Slow,
    /// The story with this number is gone, or cannot be read; others go on.
    Story(u32),
}

/// The other end of a [`Reader`].
#[derive(Debug)]
pub(crate) struct Feed(Arc<Queue>);

/// Of a whole [`Feed`], for whoever takes nothing from it now.
#[derive(Debug)]
pub(crate) struct End(Arc<Queue>);

/// A reader's part in one story. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    left: Arc<AtomicBool>,
    reads: Option<Reads>,
    /// Where it is told who is in a story.
    seat: Option<Occupied>,
}

/// The story's side of a membership.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) reader: Reader,
    pub(crate) number: u32,
    left: Arc<AtomicBool>,
    /// The place after what is in the queue; `None` while nothing was given and the reader has no place.
    pub(crate) at: Option<Arc<Cursor>>,
    /// How they come up to what is live; nothing once they have.
    pub(crate) came: Option<Joined>,
    /// How often the log could not be read for them since it was.
    pub(crate) failures: u32,
}

/// A reader with a queue of this many.
pub(crate) fn reader(person: &Identity, queue: usize) -> (Reader, Feed) {
    let queue = Arc::new(Queue::new(queue));
    let reader = Reader {
        sub: person.sub.as_str().into(),
        name: person.name.as_str().into(),
        queue: Arc::clone(&queue),
    };
    (reader, Feed(queue))
}

impl Reader {
    pub(crate) fn member(&self, number: u32, at: Option<Cursor>) -> (Member, Membership) {
        let left = Arc::new(AtomicBool::new(false));
        let member = Member {
            reader: self.clone(),
            number,
            left: Arc::clone(&left),
            came: Some(at.as_ref().map_or(Joined::Tail, |_| Joined::Memory)),
            at: at.map(Arc::new),
            failures: 0,
        };
        let membership = Membership {
            left,
            reads: None,
            seat: None,
        };
        (member, membership)
    }

    /// Where notices for them go.
    pub(crate) fn notices(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }
}

impl End {
    /// Once nothing more is given: nothing was taken for too long. Cancel-safe.
    pub(crate) async fn came(&self) {
        self.0.ended().await;
    }
}

impl Feed {
    /// For whoever waits for its end while they take nothing, in the task that takes.
    pub(crate) fn end(&self) -> End {
        End(Arc::clone(&self.0))
    }

    /// What is given next; or why nothing more is. Cancel-safe.
    pub(crate) async fn next(&self) -> Result<Delivery, Why> {
        self.0.next().await
    }

    /// What is there already of the story itself.
    pub(crate) fn try_next(&self) -> Option<Delivery> {
        self.0.try_next()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Delivery {
    /// What the reader knows the story by.
    pub(crate) fn number(&self) -> u32 {
        let (Self::Item(Place { number, .. }, _) | Self::Notice(number, _)) = self;
        *number
    }

    /// The message of a WebSocket.
    pub(crate) fn socket(&self) -> Utf8Bytes {
        match self {
            Self::Item(_, item) => item.socket(),
            Self::Notice(_, notice) => notice.socket(),
        }
    }

    /// The server-sent event.
    pub(crate) fn stream(&self) -> Bytes {
        match self {
            Self::Item(_, item) => item.stream(),
            Self::Notice(_, notice) => notice.stream(),
        }
    }

    /// Counts how long the story took to get here. What somebody missed is old by then.
    pub(crate) fn written(&self, metrics: &Metrics) {
        if let Self::Item(Place { is_live: true, .. }, item) = self {
            metrics.written(item.at.elapsed());
        }
    }
}

impl Membership {
    pub(crate) fn sits(mut self, reads: Reads, seat: Option<Occupied>) -> Self {
        self.reads = Some(reads);
        self.seat = seat;
        self
    }
}

impl Member {
    pub(crate) fn comes_by(&mut self, how: Joined) {
        if let Some(came) = &mut self.came {
            *came = how;
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) || self.reader.queue.is_left()
    }

    /// They took nothing for too long, of whatever story.
    fn end_as_slow(&self) {
        self.reader.queue.slow();
    }

    /// The story cannot be read any more: they are told, unless they have left it.
    pub(crate) fn put_out(&self) {
        if !self.has_left() {
            self.reader.queue.over(self.number);
        }
    }

    /// Something that they miss.
    pub(crate) fn give(&mut self, item: &Arc<Item>) -> Given {
        self.put(item, false)
    }

    /// Something that has just come.
    pub(crate) fn give_new(&mut self, item: &Arc<Item>) -> Given {
        self.put(item, true)
    }

    fn put(&mut self, item: &Arc<Item>, is_live: bool) -> Given {
        if self.left.load(Ordering::Relaxed) {
            return Given::Gone;
        }
        if item.is_for(&self.reader.sub) {
            let number = self.number;
            let place = Place { number, is_live };
            match self.reader.queue.give(place, item) {
                Given::Yes => {}
                refused => return refused,
            }
        }
        if item.is_place() || self.at.is_none() {
            self.at = Some(Arc::clone(&item.cursor));
        }
        Given::Yes
    }

    /// Waits for room; who takes nothing for too long is out.
    pub(crate) async fn patiently<T>(&self, room: impl Future<Output = Option<T>>) -> Option<T> {
        let mut room = std::pin::pin!(room);
        let mut since = Instant::now();
        loop {
            if let Ok(room) = timeout_at(since + SLOW, &mut room).await {
                return room;
            }
            let taken = self.reader.queue.taken();
            if self.has_left() {
                return None;
            }
            if taken <= since {
                self.end_as_slow();
                return None;
            }
            since = taken;
        }
    }

    /// How many items could be given now.
    pub(crate) fn room(&self) -> usize {
        self.reader.queue.room()
    }

    /// Waits until there is room again; `None` when nobody takes anything any more.
    pub(crate) async fn ready(&self) -> Option<()> {
        self.reader.queue.ready().await.then_some(())
    }

    /// The same, and until none of their stories reads the log for them.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        self.reader.queue.turn().await
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}
