//! Live text on its way from an agent to readers: the first words at once, then every 40 ms or 24 tokens.
//!
//! A draft is a courtesy: it never fails a turn. Readers get the whole text with the event, whatever happened to it.

use std::time::Duration;

use bus::{Bus, Draft, DraftChunk, Drafted};
use story::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::lease::Held;
use crate::metrics::Meters;

/// Between two chunks, unless [`FULL`] tokens came sooner.
const EVERY: Duration = Duration::from_millis(40);

/// Tokens of a chunk that is sent without waiting.
const FULL: u32 = 24;

/// Words that may wait for Redis before the agent does.
const WAITING: usize = 64;

/// Where an agent puts the text that the model gives, as it comes. Dropping it ends the draft.
#[derive(Debug)]
pub struct DraftSender {
    words: Option<mpsc::Sender<Word>>,
}

#[derive(Debug)]
pub(crate) enum Word {
    Text(String),
    Restart,
}

impl DraftSender {
    /// For responses that readers may not see before a verdict, and for turns that nobody watches.
    #[must_use]
    pub fn off() -> Self {
        Self { words: None }
    }

    /// Sends a token's text. Waits only when Redis is much slower than the model.
    pub async fn send(&self, text: &str) {
        self.pass(Word::Text(text.to_owned())).await;
    }

    /// All text so far is void: readers drop it.
    pub async fn restart(&self) {
        self.pass(Word::Restart).await;
    }

    async fn pass(&self, word: Word) {
        if let Some(words) = &self.words {
            // The other end is gone when the draft was given up: the turn goes on without it.
            let _ = words.send(word).await;
        }
    }
}

pub(crate) fn channel() -> (DraftSender, mpsc::Receiver<Word>) {
    let (words, receiver) = mpsc::channel(WAITING);
    (DraftSender { words: Some(words) }, receiver)
}

/// What is counted of a draft.
pub(crate) struct Watched<'a> {
    pub(crate) meters: &'a Meters,
    /// The person's action that it answers.
    pub(crate) action: Option<&'a Event>,
}

/// Takes the words to Redis.
pub(crate) struct Pump<'a> {
    bus: &'a Bus,
    watched: Watched<'a>,
    /// Cancelled when Redis says that this worker should stop generating.
    stop: &'a CancellationToken,
    draft: Draft,
    /// The last attempt that readers know of; 0 = none.
    attempt: u32,
    /// The number of the next one in that case.
    first: u32,
    /// Whether `attempt` is of this turn.
    begun: bool,
    /// Text not sent yet, and how many tokens it has.
    text: String,
    tokens: u32,
    /// Tokens sent in this attempt: the index of the next.
    sent: u32,
    due: Instant,
}

/// The draft is over before its text is: readers wait for the event.
struct GivenUp;

impl Watched<'_> {
    fn chunk(&self, is_first: bool) {
        self.meters.draft_chunks.inc();
        if let Some(action) = self.action.filter(|_| is_first) {
            self.meters.first_words(action);
        }
    }
}

impl<'a> Pump<'a> {
    /// `attempt` is the last one that an earlier delivery made; where there is none this one is the `first`.
    pub(crate) fn new(
        bus: &'a Bus,
        watched: Watched<'a>,
        held: &'a Held,
        draft: Draft,
        (attempt, first): (u32, u32),
    ) -> Self {
        Self {
            bus,
            watched,
            stop: &held.stop,
            draft,
            attempt,
            first,
            begun: false,
            text: String::new(),
            tokens: 0,
            sent: 0,
            due: Instant::now(),
        }
    }

    /// Until the sender is dropped, or the draft is given up. What is unsent at the end comes with the event.
    pub(crate) async fn run(mut self, mut words: mpsc::Receiver<Word>) {
        loop {
            let word = tokio::select! {
                biased;
                () = sleep_until(self.due), if self.tokens > 0 => None,
                word = words.recv() => word,
            };
            // An answer that is whole is committed at once: a chunk of it would come no sooner.
            if words.is_closed() {
                return;
            }
            let step = match word {
                Some(Word::Text(text)) => self.add(&text).await,
                Some(Word::Restart) => self.restart().await,
                None => self.flush().await,
            };
            if let Err(GivenUp) = step {
                return;
            }
        }
    }

    async fn add(&mut self, text: &str) -> Result<(), GivenUp> {
        self.text.push_str(text);
        self.tokens += 1;
        if self.tokens >= FULL || Instant::now() >= self.due {
            self.flush().await?;
        }
        Ok(())
    }

    /// The next text begins a new attempt, which readers are told of now if they saw some of this one.
    async fn restart(&mut self) -> Result<(), GivenUp> {
        self.text.clear();
        self.tokens = 0;
        if self.sent > 0 {
            self.reset().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), GivenUp> {
        if !self.begun && self.attempt > 0 {
            self.reset().await?;
        }
        // Words of an earlier attempt were the first ones.
        let is_first = self.attempt == 0;
        if is_first {
            self.attempt = self.first;
        }
        self.begun = true;
        let chunk = DraftChunk {
            draft: &self.draft,
            attempt: self.attempt,
            i: self.sent,
            n: self.tokens,
            text: &self.text,
        };
        match self.bus.draft(&chunk).await {
            Ok(Drafted::Ok) => self.watched.chunk(is_first),
            Ok(Drafted::Stale) => return Err(self.stale()),
            Err(error) => return Err(gave_up(error)),
        }
        self.sent += self.tokens;
        self.tokens = 0;
        self.text.clear();
        self.due = Instant::now() + EVERY;
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), GivenUp> {
        match self.bus.reset_draft(&self.draft).await {
            Ok(Some(attempt)) => self.attempt = attempt,
            Ok(None) => return Err(self.stale()),
            Err(error) => return Err(gave_up(error)),
        }
        self.begun = true;
        self.sent = 0;
        Ok(())
    }

    /// Another worker has the event: each further token would be paid for nothing.
    fn stale(&self) -> GivenUp {
        tracing::warn!("the draft is another worker's: stopping");
        self.stop.cancel();
        GivenUp
    }
}

/// A chunk that may be missing would be a hole for readers; none at all is not.
fn gave_up(error: bus::Error) -> GivenUp {
    let error = anyhow::Error::from(error);
    tracing::debug!(error = crate::exit::line(&error), "draft given up");
    GivenUp
}
