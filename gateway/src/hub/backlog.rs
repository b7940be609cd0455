//! What somebody is given of the log who was away for longer than the story's memory, a page at a time.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, Error, Seen, backoff};
use story::{Cursor, StoryId};

use crate::hub::TAIL;
use crate::hub::actor::Command;
use crate::hub::item::Item;
use crate::hub::reader::{Given, Member};

/// The longest wait before the log is read again after Redis was away or refused.
const AGAIN: Duration = Duration::from_secs(5);
/// Events of the log that somebody is given at once: about as many as their queue takes.
const PAGE: usize = 64;

/// What comes next of the log, as much as there is room for. Of somebody without a place that is found first, and nothing
/// is read.
pub(super) async fn next(
    bus: &Bus,
    story: &StoryId,
    member: &mut Member,
) -> Result<Option<Vec<(Seen, Cursor)>>, Error> {
    match &member.at {
        Some(at) => {
            let count = member.room().clamp(1, PAGE);
            let read = bus.read_on(story, Cursor::clone(at), count).await;
            read.map(Some)
        }
        None => {
            let place = bus.place_before_end(story, TAIL).await?;
            member.at = Some(Arc::new(place));
            Ok(None)
        }
    }
}

/// Gives them what was read of the log; and how they go on after a while, if they do.
pub(super) fn give(
    mut member: Member,
    story: &Arc<StoryId>,
    read: Result<Option<Vec<(Seen, Cursor)>>, Error>,
) -> Option<(Command, Duration)> {
    let seen = match read {
        Ok(seen) => seen,
        Err(error) if error.is_passing() => {
            member.failures = member.failures.saturating_add(1);
            let pause = backoff(member.failures, AGAIN);
            return Some((Command::Join(member, None), pause));
        }
        Err(error) => {
            tracing::warn!(%story, %error, "a reader cannot be given what they missed");
            member.put_out();
            return None;
        }
    };
    member.failures = 0;
    let is_over = seen.as_ref().is_some_and(Vec::is_empty);
    for (seen, cursor) in seen.into_iter().flatten() {
        if seen == Seen::Gap {
            return Some((Command::Anew(member), Duration::ZERO));
        }
        let item = Item::seen(Arc::clone(story), Arc::new(cursor), seen);
        match member.give(&Arc::new(item)) {
            Given::Yes => {}
            // They come for the rest when there is room.
            Given::Full => break,
            Given::Gone => return None,
        }
    }
    let command = match is_over {
        true => Command::Later(member),
        false => Command::Join(member, None),
    };
    Some((command, Duration::ZERO))
}
