//! A story's room: what people do there that is not of the story, as typing. Nothing of it is kept: what is said while a
//! listener has no connection is lost to it, and it costs nothing to lose.

use story::StoryId;

use crate::channel::{Channel, Heard};
use crate::feeds::Feeds;
use crate::{Bus, Error};

/// What a hint may have, in bytes.
pub const MAX_HINT_BYTES: usize = 1_024;
/// What here.lua publishes; no JSON, so that no hint is taken for it.
const HERE: &[u8] = b"here";

/// Something that happened in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Other people may be here than before: ask [`Bus::who_is_here`].
    People,
    /// What was given to [`Bus::hint`], as it was.
    Json(Vec<u8>),
}

/// Listens to a room; it ends when it is dropped.
pub struct Room {
    channel: Channel,
}

impl Bus {
    /// Tells whoever listens to the story's room now; nobody else. `json` has at most 1 KiB.
    ///
    /// # Errors
    /// [`Error::Oversized`]; or Redis was not reached or refuses, and it may have been told or not.
    pub async fn hint(&self, story: &StoryId, json: &[u8]) -> Result<(), Error> {
        Error::check_size("a hint", json.len(), MAX_HINT_BYTES)?;
        let mut publish = redis::cmd("SPUBLISH");
        publish.arg(self.keys.room(story)).arg(json);
        self.link.query(&publish).await.map(drop)
    }
}

impl Feeds {
    /// Listens to a story's room, over the connection that these subscriptions share. One listener at a time.
    #[must_use]
    pub fn room(&self, story: &StoryId) -> Room {
        let name = self.bus.keys.room(story);
        Room {
            channel: Channel::new(self.clone(), name, MAX_HINT_BYTES).quiet(),
        }
    }
}

impl Room {
    /// The next hint; waits for it, through restarts of Redis too. The first is [`Hint::People`] when it is subscribed to,
    /// so that who asks then who is here misses no later change. Hints are lost when the connection is, or when a listener
    /// is too slow for them; then comes [`Hint::People`] again. Cancel-safe.
    ///
    /// # Errors
    /// When Redis refuses. The next call tries again, and without a pause.
    pub async fn next(&mut self) -> Result<Hint, Error> {
        loop {
            match self.channel.next().await? {
                Heard::Message(message) if message == HERE => return Ok(Hint::People),
                Heard::Message(message) => return Ok(Hint::Json(message)),
                Heard::Began | Heard::Lost => return Ok(Hint::People),
                Heard::Quiet => {}
            }
        }
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").finish_non_exhaustive()
    }
}
