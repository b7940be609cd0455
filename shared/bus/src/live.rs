//! The live channel of a story. Messages wait in a bounded queue; where a slow reader lets it fill up, messages are dropped
//! and the reader is told, so that it reads the log instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::Error;
use crate::feeds::Feeds;
use crate::feeds::routes::Push;
use crate::view::Message;

/// What a live message may have: an event and what is around it, or a piece of a draft.
const MAX_MESSAGE_BYTES: usize = 2 * story::MAX_EVENT_BYTES;

/// A subscription; it ends when it is dropped.
pub(crate) struct Live {
    pub(crate) feeds: Feeds,
    pub(crate) channel: String,
    /// Tells it from a later one of the same channel.
    pub(crate) serial: u64,
    pub(crate) queue: mpsc::Receiver<Push>,
    pub(crate) overflowed: Arc<AtomicBool>,
}

/// What came over the subscription.
#[derive(Debug)]
pub(crate) enum Arrival<T> {
    Message(T),
    /// Some messages were lost, and none that came before is left: what is read from now on has them all.
    Lost,
    /// No more will come.
    Closed,
}

impl Live {
    /// The next arrival. Cancel-safe: what it did not give, the next call gives.
    pub(crate) async fn next(&mut self) -> Arrival<Message> {
        match self.next_bytes().await {
            Arrival::Message(json) if json.len() > MAX_MESSAGE_BYTES => {
                tracing::warn!(bytes = json.len(), "a live message is too large");
                Arrival::Lost
            }
            Arrival::Message(json) => match serde_json::from_slice::<Message>(&json) {
                Ok(message) if message.is_countable() => Arrival::Message(message),
                Ok(_) => {
                    tracing::warn!("a live message has chunks beyond all numbers");
                    Arrival::Lost
                }
                Err(error) => {
                    tracing::warn!(%error, "a live message cannot be read");
                    Arrival::Lost
                }
            },
            Arrival::Lost => Arrival::Lost,
            Arrival::Closed => Arrival::Closed,
        }
    }

    /// The same, as it came.
    pub(crate) async fn next_bytes(&mut self) -> Arrival<Vec<u8>> {
        if self.overflowed.load(Ordering::Acquire) {
            self.drain();
            return Arrival::Lost;
        }
        match self.queue.recv().await {
            Some(Push(bytes)) => Arrival::Message(bytes),
            None => Arrival::Closed,
        }
    }

    /// Drops what came until now, for whoever reads next what it told of: a full queue that stays full loses something
    /// again during each reading.
    pub(crate) fn drain(&mut self) {
        while self.queue.try_recv().is_ok() {}
        // Only now: what found the queue full until here came before the reading too.
        self.overflowed.store(false, Ordering::Release);
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Whether the connection still answers: a subscription alone would not show that it is dead.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        self.feeds.ping(&self.channel).await
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.feeds.end(&self.channel, self.serial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bus, Settings};

    #[tokio::test]
    async fn chunks_beyond_all_numbers_and_what_is_no_message_are_read_anew() {
        let feeds = Bus::new(Settings::new("redis://nowhere")).unwrap().feeds();
        let mut live = feeds.route("castle", 0);
        let last = u32::MAX;
        for (i, is_message) in [(last - 1, true), (last, false)] {
            let delta = format!(r#"{{"t":"delta","re":"r1","attempt":1,"i":{i},"n":1,"text":""}}"#);
            feeds.message("castle", delta.into_bytes());
            let next = live.next().await;
            assert_eq!(matches!(next, Arrival::Message(_)), is_message, "{next:?}");
        }
        feeds.message("castle", br#"{"t":"of a later version"}"#.to_vec());
        let next = live.next().await;
        assert!(
            matches!(next, Arrival::Message(Message::Unknown)),
            "{next:?}"
        );
    }

    #[tokio::test]
    async fn after_a_loss_there_is_room_again() {
        let feeds = Bus::new(Settings::new("redis://nowhere")).unwrap().feeds();
        let mut live = feeds.route("castle", 0);
        for _ in 0..2 {
            for _ in 0..2_000 {
                feeds.message("castle", b"before".to_vec());
            }
            assert!(matches!(live.next_bytes().await, Arrival::Lost));
            for _ in 0..3 {
                feeds.message("castle", b"after".to_vec());
                let next = live.next_bytes().await;
                assert!(
                    matches!(&next, Arrival::Message(message) if message == b"after"),
                    "{next:?}"
                );
            }
        }
    }
}
