//! Watching a story as a reader does: what happened after a cursor, the responses that are being generated, then
//! everything live. [`crate::view`] decides what is given; here are only its reads, and patience when Redis is away.

use std::time::Duration;

use futures::future::BoxFuture;
use story::{Cursor, Seq, StoryId, Tag};
use tokio::time::{Instant, sleep, timeout_at};

use crate::feeds::Feeds;
use crate::live::{Arrival, Live};
use crate::view::{Drafts, Due, Page, Seen, View};
use crate::{Bus, Error, backoff};

/// Events in one read.
const PAGE: usize = 200;
/// A subscription that brings nothing for so long is doubted: the connection is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);
/// The longest wait before what was refused is asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// What was not read for so long is read again: that a message was never sent (a channel that an ACL denies), or not to
/// this connection, shows nowhere else.
const STALE: Duration = Duration::from_secs(30);

/// One reader's view of one story.
pub struct Watch {
    feeds: Feeds,
    story: StoryId,
    view: View,
    live: Option<Box<Live>>,
    /// When the subscription is doubted.
    doubt: Instant,
    /// When everything is read again.
    stale: Instant,
    /// What was begun; it outlives a dropped `next`, or a reader that is often woken would never be done with it.
    reading: Option<BoxFuture<'static, Result<Read, Error>>>,
    /// How often it began to read on in the log: what was asked for before that is answered by it.
    begun: u64,
    /// The reading that was asked for last.
    wanted: u64,
    /// The last reading of which everything was given.
    given: u64,
    /// That all was given was told, and nothing was read since.
    was_at_end: bool,
    /// How often Redis was not reached or refused since something was read.
    failures: u32,
    /// And how often it refused: that takes no time, and all stories would ask again at once.
    refusals: u32,
}

/// What comes of a wait for Redis.
enum Read {
    /// A subscription that began: only what is read from now on cannot miss anything.
    Live(Box<Live>),
    /// The connection lives.
    Alive,
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

    /// The next events after a cursor, at most `limit`, each with the place after it; none at the log's end. When the
    /// cursor is of another history, or the log goes on only later, the first is [`Seen::Gap`].
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn read_on(
        &self,
        story: &StoryId,
        cursor: Cursor,
        limit: usize,
    ) -> Result<Vec<(Seen, Cursor)>, Error> {
        let mut view = View::new(Some(cursor));
        if let Due::Log(after) = view.due() {
            // One more than asked for: the first is the event at the cursor.
            view.page(self.page(story, after, limit.saturating_add(1)).await?);
        }
        let mut read = Vec::new();
        while let Some(seen) = view.next() {
            read.push((seen, view.cursor().clone()));
        }
        Ok(read)
    }

    /// The place before the last `count` events.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn place_before_end(&self, story: &StoryId, count: usize) -> Result<Cursor, Error> {
        let (place, _end) = self.last_events(story, count).await?;
        Ok(place)
    }

    /// The place before the last `count` events, and the log's end.
    async fn last_events(&self, story: &StoryId, count: usize) -> Result<(Cursor, Seq), Error> {
        let start = self.page(story, Seq(0), 1).await?;
        let back = u64::try_from(count).unwrap_or(u64::MAX);
        let seq = start.end.0.saturating_sub(back);
        let (mut entries, epoch, end) = (start.entries, start.epoch, start.end);
        if seq > 1 {
            entries = self.page(story, Seq(seq - 1), 1).await?.entries;
        }
        let first = entries.pop().filter(|_| seq > 0);
        let (seq, tag) = first.map_or((Seq(0), Tag::START), |entry| {
            (entry.seq, Tag::of(&entry.event.id))
        });
        let place = Cursor {
            epoch,
            seq,
            tag,
            draft: None,
        };
        Ok((place, end))
    }
}

impl Feeds {
    /// As [`Bus::watch`], over the connection that these subscriptions share. A story is watched once at a time.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn watch(&self, story: &StoryId, cursor: Option<Cursor>) -> Result<Watch, Error> {
        self.bus.page(story, Seq(0), 1).await?;
        Ok(self.watch_as(story, View::new(cursor)))
    }

    /// Watches the last `count` events and all that follow. There is no gap where some of those are missing: nobody was
    /// given what they would have to join to.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn watch_last(&self, story: &StoryId, count: usize) -> Result<Watch, Error> {
        let (place, end) = self.bus.last_events(story, count).await?;
        Ok(self.watch_as(story, View::anew(place, end)))
    }

    fn watch_as(&self, story: &StoryId, view: View) -> Watch {
        Watch {
            feeds: self.clone(),
            story: story.clone(),
            view,
            live: None,
            doubt: Instant::now(),
            stale: Instant::now(),
            reading: None,
            begun: 0,
            wanted: 0,
            given: 0,
            was_at_end: false,
            failures: 0,
            refusals: 0,
        }
    }
}

impl Watch {
    /// The next thing to see; waits for it, through restarts of Redis and what it refuses for a while too. Cancel-safe:
    /// however often it is dropped, the next call goes on where it was.
    ///
    /// # Errors
    /// [`Error::NoStory`] when the story was removed; or when Redis refuses for good.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            if let Some(seen) = self.next_or_caught_up().await? {
                return Ok(seen);
            }
        }
    }

    /// As [`Watch::next`]; `None` each time that all of a reading was given.
    ///
    /// # Errors
    /// Those of [`Watch::next`].
    pub async fn next_or_caught_up(&mut self) -> Result<Option<Seen>, Error> {
        loop {
            if let Some(seen) = self.view.next() {
                return Ok(Some(seen));
            }
            if self.is_at_end() && !std::mem::replace(&mut self.was_at_end, true) {
                self.given = self.begun;
                return Ok(None);
            }
            let Some(reading) = &mut self.reading else {
                self.step().await;
                continue;
            };
            let read = reading.await;
            self.reading = None;
            match read {
                Ok(read) => self.take(read),
                Err(error) if error.is_passing() => {
                    if self.failures == 0 {
                        tracing::warn!(story = %self.story, %error, "lost sight of a story");
                    }
                    self.failures = self.failures.saturating_add(1);
                    self.live = None;
                    if !matches!(error, Error::Unreachable(_)) {
                        self.refusals = self.refusals.saturating_add(1);
                    }
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

    /// Whether all there was when it last read was given, and nothing is being read or asked for.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.is_at_end() && self.wanted <= self.begun
    }

    /// Asks for everything that there is by now. What is being read already may be older, and is read to its end all the
    /// same, so that whoever asks all the time keeps nobody from seeing anything. Gives the number of the reading that will
    /// answer: see [`Watch::given`].
    pub fn read_again(&mut self) -> u64 {
        self.wanted = self.begun + 1;
        self.wanted
    }

    /// The number of the last reading of which everything was given.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// The place after everything that was given.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.view.cursor()
    }

    /// Begins what is due, or takes what arrives.
    async fn step(&mut self) {
        let (bus, story) = (self.feeds.bus.clone(), self.story.clone());
        let is_due = self.wanted > self.begun || self.stale <= Instant::now();
        let Some(live) = &mut self.live else {
            let feeds = self.feeds.clone();
            let pause = backoff(self.refusals, PAUSE);
            return self.begin(async move {
                sleep(pause).await;
                let live = feeds.subscribe(bus.keys.live(&story)).await;
                live.map(|live| Read::Live(Box::new(live)))
            });
        };
        match self.view.due() {
            Due::Log(after) => {
                // Whatever came until now was written before, and will be read.
                live.drain();
                self.begun += 1;
                // At different times: those who began together would read together.
                self.stale = Instant::now() + STALE.mul_f64(rand::random_range(0.75..=1.0));
                self.begin(async move { bus.page(&story, after, PAGE).await.map(Read::Page) });
            }
            Due::Drafts => self.begin(async move { bus.running(&story).await.map(Read::Drafts) }),
            Due::Live if is_due => self.view.read_again(),
            Due::Live => match timeout_at(self.doubt.min(self.stale), live.next()).await {
                Ok(arrival) => {
                    self.doubt = Instant::now() + QUIET;
                    match arrival {
                        Arrival::Message(message) => self.view.message(message),
                        Arrival::Lost => self.view.read_again(),
                        Arrival::Closed => self.live = None,
                    }
                }
                Err(_quiet) if self.stale <= self.doubt => {}
                Err(_quiet) => {
                    let (feeds, channel) = (self.feeds.clone(), live.channel().to_owned());
                    self.begin(async move { feeds.ping(&channel).await.map(|()| Read::Alive) });
                }
            },
        }
    }

    fn is_at_end(&self) -> bool {
        let at_end = self.view.due() == Due::Live && !self.view.has_more();
        at_end && self.live.is_some() && self.reading.is_none()
    }

    fn begin(&mut self, read: impl Future<Output = Result<Read, Error>> + Send + 'static) {
        self.was_at_end = false;
        self.reading = Some(Box::pin(read));
    }

    fn take(&mut self, read: Read) {
        if !matches!(read, Read::Live(_)) {
            (self.failures, self.refusals) = (0, 0);
        }
        match read {
            Read::Live(live) => {
                self.live = Some(live);
                self.doubt = Instant::now() + QUIET;
                self.view.read_again();
            }
            Read::Alive => self.doubt = Instant::now() + QUIET,
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
