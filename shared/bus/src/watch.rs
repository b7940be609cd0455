//! Watching a story as a reader does: what happened after a cursor, the responses that are being generated, then
//! everything live. [`crate::view`] decides what is given; here are only its reads, and patience when Redis is away.

use std::time::Duration;

use futures::future::BoxFuture;
use story::{Cursor, Seq, StoryId};
use tokio::time::{Instant, timeout_at};

use crate::feeds::Feeds;
use crate::live::{Arrival, Live};
use crate::view::{Drafts, Due, Page, Seen, View};
use crate::{Bus, Error};

/// Events in one read.
const PAGE: usize = 200;
/// A subscription that brings nothing for so long is doubted: the log is read again.
const QUIET: Duration = Duration::from_secs(5);

/// One reader's view of one story.
pub struct Watch {
    feeds: Feeds,
    story: StoryId,
    view: View,
    live: Option<Live>,
    /// When the subscription is doubted.
    doubt: Instant,
    /// What was begun; it outlives a dropped `next`, or a reader that is often woken would never be done with it.
    reading: Option<BoxFuture<'static, Result<Read, Error>>>,
    /// Connections lost since one was good.
    failures: u32,
}

/// What comes of a wait for Redis.
enum Read {
    /// A subscription that began or was found alive: only what is read from now on cannot miss anything.
    Live(Live),
    Page(Page),
    Drafts(Drafts),
}

impl Bus {
    /// Watches a story from its beginning, or on from a cursor.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn watch(&self, story: &StoryId, cursor: Option<Cursor>) -> Result<Watch, Error> {
        self.feeds().watch(story, cursor).await
    }
}

impl Feeds {
    /// As [`Bus::watch`], over the connection that these subscriptions share. A story is watched once at a time.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn watch(&self, story: &StoryId, cursor: Option<Cursor>) -> Result<Watch, Error> {
        self.bus.page(story, Seq(0), 1).await?;
        Ok(Watch {
            feeds: self.clone(),
            story: story.clone(),
            view: View::new(cursor),
            live: None,
            doubt: Instant::now(),
            reading: None,
            failures: 0,
        })
    }
}

impl Watch {
    /// The next thing to see; waits for it, through restarts of Redis too. Cancel-safe: however often it is dropped,
    /// the next call goes on where it was.
    ///
    /// # Errors
    /// [`Error::NoStory`] when the story was removed; or when Redis refuses.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            if let Some(seen) = self.view.next() {
                return Ok(seen);
            }
            let Some(reading) = &mut self.reading else {
                self.step().await;
                continue;
            };
            let read = reading.await;
            self.reading = None;
            match read {
                Ok(read) => self.take(read),
                Err(Error::Unreachable(error)) => {
                    if self.failures == 0 {
                        tracing::warn!(story = %self.story, %error, "lost sight of a story");
                    }
                    self.failures = self.failures.saturating_add(1);
                    self.live = None;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether Redis is out of sight: nothing new is seen until it is back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.failures > 0
    }

    /// The place after everything that was given.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.view.cursor()
    }

    /// Begins what is due, or takes what arrives.
    async fn step(&mut self) {
        let (bus, story) = (self.feeds.bus.clone(), self.story.clone());
        let Some(live) = &mut self.live else {
            let feeds = self.feeds.clone();
            return self.begin(async move {
                let live = feeds.subscribe(bus.keys.live(&story)).await;
                live.map(Read::Live)
            });
        };
        match self.view.due() {
            Due::Log(after) => {
                self.begin(async move { bus.page(&story, after, PAGE).await.map(Read::Page) });
            }
            Due::Drafts => self.begin(async move { bus.running(&story).await.map(Read::Drafts) }),
            Due::Live => match timeout_at(self.doubt, live.next()).await {
                Ok(arrival) => {
                    self.doubt = Instant::now() + QUIET;
                    match arrival {
                        Arrival::Message(message) => self.view.message(message),
                        Arrival::Lost => self.view.read_again(),
                        Arrival::Closed => self.live = None,
                    }
                }
                Err(_quiet) => {
                    if let Some(live) = self.live.take() {
                        self.begin(async move { live.ping().await.map(|()| Read::Live(live)) });
                    }
                }
            },
        }
    }

    fn begin(&mut self, read: impl Future<Output = Result<Read, Error>> + Send + 'static) {
        self.reading = Some(Box::pin(read));
    }

    fn take(&mut self, read: Read) {
        self.failures = 0;
        match read {
            Read::Live(live) => {
                self.live = Some(live);
                self.doubt = Instant::now() + QUIET;
                self.view.read_again();
            }
            Read::Page(page) => self.view.page(page),
            Read::Drafts(drafts) => self.view.drafts(drafts),
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("story", &self.story)
            .field("cursor", self.cursor())
            .finish_non_exhaustive()
    }
}
