//! Which of the events that a producer knows to be accepted are there.

use std::collections::HashSet;

use futures::TryStreamExt;
use story::{EventId, StoryId};

use crate::reply::read;
use crate::{Bus, Error};

/// Ids in one question.
const TOGETHER: usize = 1_000;

impl Bus {
    /// Of these events of a story those that are nowhere: a failover or a restore took them. Retention and moderation leave
    /// an event's id for a day: of what is older and is nowhere it is not known whether it was lost or removed on purpose.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn missing(&self, story: &StoryId, sent: &[EventId]) -> Result<Vec<EventId>, Error> {
        let mut missing = Vec::new();
        for ids in sent.chunks(TOGETHER) {
            let mut cmd = redis::cmd("ZMSCORE");
            cmd.arg(self.keys.seen(story));
            ids.iter().for_each(|id| _ = cmd.arg(id.as_str()));
            let at: Vec<Option<f64>> = read(self.link.query(&cmd).await?)?;
            let unknown = ids.iter().zip(at).filter(|(_, at)| at.is_none());
            missing.extend(unknown.map(|(id, _)| id.clone()));
        }
        if missing.is_empty() {
            return Ok(missing);
        }
        let log = self.whole_log(story).map_ok(|entry| entry.event.id);
        match log.try_collect::<HashSet<EventId>>().await {
            Ok(logged) => missing.retain(|id| !logged.contains(id)),
            // The story went with its events.
            Err(Error::NoStory(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(missing)
    }
}
