//! Watching a story as a reader does: what happened after a cursor, the responses that are being generated, then
//! everything live. [`crate::view`] decides what is given; here are only its reads, and patience when Redis is away.

use std::time::Duration;

use story::{Cursor, Seq, StoryId};
use tokio::time::{sleep, timeout};

use crate::connect::backoff;
use crate::live::{Arrival, Live};
use crate::view::{Due, Seen, View};
use crate::{Bus, Error};

/// Events in one read.
const PAGE: usize = 200;
/// A subscription that brings nothing for so long is doubted: the log is read again.
const QUIET: Duration = Duration::from_secs(5);

/// One reader's view of one story.
pub struct Watch {
    bus: Bus,
    story: StoryId,
    view: View,
    live: Option<Live>,
    /// Connections lost since one was good.
    failures: u32,
}

impl Bus {
    /// Watches a story from its beginning, or on from a cursor.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn watch(&self, story: &StoryId, cursor: Option<Cursor>) -> Result<Watch, Error> {
        self.page(story, Seq(0), 1).await?;
        Ok(Watch {
            bus: self.clone(),
            story: story.clone(),
            view: View::new(cursor),
            live: None,
            failures: 0,
        })
    }
}

impl Watch {
    /// The next thing to see; waits for it, through restarts of Redis too. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::NoStory`] when the story was removed; or when Redis refuses.
    pub async fn next(&mut self) -> Result<Seen, Error> {
        loop {
            if let Some(seen) = self.view.next() {
                return Ok(seen);
            }
            match self.step().await {
                Ok(()) => self.failures = 0,
                Err(Error::Unreachable(error)) => {
                    if self.failures == 0 {
                        tracing::warn!(story = %self.story, %error, "lost sight of a story");
                    }
                    self.failures = self.failures.saturating_add(1);
                    self.live = None;
                    sleep(backoff(self.failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The place after everything that was given.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.view.cursor()
    }

    /// Does one thing; only its end changes what is known, so it may be dropped at any await.
    async fn step(&mut self) -> Result<(), Error> {
        let Some(live) = &mut self.live else {
            let channel = self.bus.keys.live(&self.story);
            let patience = self.bus.settings.timeout;
            self.live = Some(Live::open(&self.bus.topology, patience, &channel).await?);
            // Only what is read after the subscription began cannot miss anything.
            self.view.read_again();
            return Ok(());
        };
        match self.view.due() {
            Due::Log(after) => {
                let page = self.bus.page(&self.story, after, PAGE).await?;
                self.view.page(page);
            }
            Due::Drafts => {
                let drafts = self.bus.running(&self.story).await?;
                self.view.drafts(drafts);
            }
            Due::Live => match timeout(QUIET, live.next()).await {
                Ok(Arrival::Message(message)) => self.view.message(message),
                Ok(Arrival::Lost) => self.view.read_again(),
                Ok(Arrival::Closed) => self.live = None,
                Err(_quiet) => {
                    live.ping().await?;
                    self.view.read_again();
                }
            },
        }
        Ok(())
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
