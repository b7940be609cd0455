//! One who reads stories: the queue of what they are given, and why it may end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::ws::Utf8Bytes;
use story::Cursor;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::hub::aside::{Aside, Notice};
use crate::hub::item::Item;
use crate::hub::room::Occupied;
use crate::metrics::{Joined, Metrics};

/// What a reader is given, with the number that they know the story by.
#[derive(Debug)]
pub(crate) enum Delivery {
    Item(u32, Arc<Item>),
    /// Of what they may miss.
    Notice(u32, Arc<Notice>),
}

/// Where what a reader is given goes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) sub: Arc<str>,
    /// As others in a story see it.
    pub(crate) name: Arc<str>,
    pub(crate) aside: Arc<Aside>,
    queue: mpsc::Sender<(u32, Arc<Item>)>,
    end: Arc<End>,
}

/// Why nothing more is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Took nothing for too long.
    Slow,
    /// The story is gone, or cannot be read.
    Story,
}

#[derive(Debug, Default)]
pub(crate) struct End {
    token: CancellationToken,
    why: OnceLock<Why>,
}

/// The other end of a [`Reader`].
#[derive(Debug)]
pub(crate) struct Feed {
    queue: mpsc::Receiver<(u32, Arc<Item>)>,
    aside: Arc<Aside>,
    end: Arc<End>,
}

/// A reader's part in one story. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Membership {
    left: Arc<AtomicBool>,
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
}

/// Whether an item could be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    Yes,
    /// The queue is full.
    Full,
    /// Nobody takes it any more.
    Gone,
}

/// A reader with a queue of this many.
pub(crate) fn reader(person: &Identity, queue: usize) -> (Reader, Feed) {
    let (sender, receiver) = mpsc::channel(queue);
    let (aside, end) = (Arc::new(Aside::default()), Arc::new(End::default()));
    let feed = Feed {
        queue: receiver,
        aside: Arc::clone(&aside),
        end: Arc::clone(&end),
    };
    let reader = Reader {
        sub: person.sub.as_str().into(),
        name: person.name.as_str().into(),
        aside,
        queue: sender,
        end,
    };
    (reader, feed)
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
        };
        (member, Membership { left, seat: None })
    }

    pub(crate) fn close(&self, why: Why) {
        // The first reason counts.
        let _is_first = self.end.why.set(why);
        self.end.token.cancel();
    }
}

impl End {
    /// Why nothing more is given, once that is so. Cancel-safe.
    pub(crate) async fn why(&self) -> Why {
        self.token.cancelled().await;
        self.why.get().copied().unwrap_or(Why::Slow)
    }
}

impl Feed {
    /// For whoever waits for its end while they take nothing.
    pub(crate) fn end(&self) -> Arc<End> {
        Arc::clone(&self.end)
    }

    /// What is given next; or why nothing more is. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Delivery, Why> {
        tokio::select! {
            biased;
            why = self.end.why() => Err(why),
            // These are few.
            (number, notice) = self.aside.next() => Ok(Delivery::Notice(number, notice)),
            item = self.queue.recv() => match item {
                Some((number, item)) => Ok(Delivery::Item(number, item)),
                None => Err(Why::Story),
            },
        }
    }

    /// What is there already of the story itself.
    pub(crate) fn try_next(&mut self) -> Option<Delivery> {
        let (number, item) = self.queue.try_recv().ok()?;
        Some(Delivery::Item(number, item))
    }
}

impl Delivery {
    /// What the reader knows the story by.
    pub(crate) fn number(&self) -> u32 {
        let (Self::Item(number, _) | Self::Notice(number, _)) = self;
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

    /// Counts how long the story took to get here.
    pub(crate) fn written(&self, metrics: &Metrics) {
        if let Self::Item(_, item) = self {
            metrics.written(item.at.elapsed());
        }
    }
}

impl Membership {
    pub(crate) fn sits(mut self, seat: Option<Occupied>) -> Self {
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
        self.left.load(Ordering::Relaxed) || self.reader.queue.is_closed()
    }

    pub(crate) fn give(&mut self, item: &Arc<Item>) -> Given {
        if self.left.load(Ordering::Relaxed) {
            return Given::Gone;
        }
        if item.is_for(&self.reader.sub) {
            match self.reader.queue.try_send((self.number, Arc::clone(item))) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return Given::Full,
                Err(mpsc::error::TrySendError::Closed(_)) => return Given::Gone,
            }
        }
        if item.is_place() || self.at.is_none() {
            self.at = Some(Arc::clone(&item.cursor));
        }
        Given::Yes
    }

    /// Waits until something could be given; false when nobody takes it any more.
    pub(crate) async fn ready(&self) -> bool {
        self.reader.queue.reserve().await.is_ok()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
    }
}
