//! Live text on its way from an agent to readers: the first words at once, then every 40 ms or 24 tokens.
//!
//! A draft is a courtesy: it never fails a turn. Readers get the whole text with the event, whatever happened to it.

use tokio::sync::mpsc;

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
