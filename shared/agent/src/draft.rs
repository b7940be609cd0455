//! Live text on its way from an agent to readers: the first words at once, then every 40 ms or 24 tokens.
//!
//! A draft is a courtesy: it never fails a turn. Readers get the whole text with the event, whatever happened to it. All of
//! it passes one place, where it is watched as the story's policy asks: no agent can show a word beside that.

use std::time::Duration;

use bus::{Bus, Draft, DraftChunk, Drafted};
use moderation::{Rules, Watch};
use story::{ContentPolicy, Event, OutputPolicy};
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
enum Word {
    Text(String),
    Restart,
}

/// Where they come out, and what of them may be shown.
pub(crate) struct Words {
    coming: mpsc::Receiver<Word>,
    watch: Watch,
}

impl DraftSender {
    /// For responses that not all readers may see, or none before a verdict, and for turns that nobody watches.
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

pub(crate) fn channel(policy: OutputPolicy, content: &ContentPolicy) -> (DraftSender, Words) {
    let (words, coming) = mpsc::channel(WAITING);
    let rules = match policy {
        // Nothing is looked at.
        OutputPolicy::Off => Rules::default(),
        OutputPolicy::Hold | OutputPolicy::Retract => Rules::of(content),
    };
    let watch = Watch::new(policy, rules);
    (DraftSender { words: Some(words) }, Words { coming, watch })
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
    /// Text that was not looked at yet, and how many tokens it has.
    text: String,
    tokens: u32,
    /// Chunks sent in this attempt: the index of the next. A token is one, whatever it shows.
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
    pub(crate) async fn run(mut self, words: Words) {
        let Words {
            mut coming,
            mut watch,
        } = words;
        loop {
            let word = tokio::select! {
                biased;
                () = sleep_until(self.due), if self.tokens > 0 => None,
                word = coming.recv() => word,
            };
            // An answer that is whole is committed at once: a chunk of it would come no sooner.
            if coming.is_closed() {
                return;
            }
            let step = match word {
                Some(Word::Text(text)) => self.add(&text, &mut watch).await,
                Some(Word::Restart) => {
                    watch.restart();
                    self.restart().await
                }
                None => self.flush(&mut watch).await,
            };
            if let Err(GivenUp) = step {
                return;
            }
        }
    }

    async fn add(&mut self, text: &str, watch: &mut Watch) -> Result<(), GivenUp> {
        self.text.push_str(text);
        self.tokens += 1;
        if self.tokens >= FULL || Instant::now() >= self.due {
            self.flush(watch).await?;
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

    /// Shows what the policy lets pass of the text. It is looked at once for each chunk, and not for each token.
    async fn flush(&mut self, watch: &mut Watch) -> Result<(), GivenUp> {
        let (text, n) = (watch.push(&self.text), self.tokens);
        self.tokens = 0;
        self.text.clear();
        self.due = Instant::now() + EVERY;
        match text.is_empty() {
            true => Ok(()),
            false => self.show(&text, n).await,
        }
    }

    async fn show(&mut self, text: &str, n: u32) -> Result<(), GivenUp> {
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
            n,
            text,
        };
        match self.bus.draft(&chunk).await {
            Ok(Drafted::Ok) => self.watched.chunk(is_first),
            Ok(Drafted::Stale) => return Err(self.stale()),
            Err(error) => return Err(gave_up(error)),
        }
        self.sent += n;
        // Behind Redis's answer.
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
