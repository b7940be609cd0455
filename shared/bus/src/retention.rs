//! Retention: the oldest events of a log go when they are old and many newer ones are there. Nobody calls it unasked.

use std::time::Duration;

use story::StoryId;

use crate::reply::read;
use crate::script::{Script, lane_script};
use crate::{Bus, Error, Replicated};

pub(crate) static TRIM: Script = Script::new(lane_script!("trim"));

/// Events that one run of the script looks at: it blocks Redis for as long.
const PAGE: u64 = 100;

/// What stays of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The last events, whatever their age. No fewer than agents read for their prompts.
    pub events: u64,
    /// All that is younger, however much it is. No less than ids are remembered: 24 h.
    pub age: Duration,
}

impl Bus {
    /// Removes what is neither among the last events nor young; gives how many events went. A reader whose cursor is
    /// before what is left gets a gap.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn trim(&self, story: &StoryId, keep: Retention) -> Result<u64, Error> {
        let (removed, _) = self.trim_replicated(story, keep).await?;
        Ok(removed)
    }

    /// The same; tells whether replicas have removed it too, if anything went.
    ///
    /// # Errors
    /// As [`Bus::trim`].
    pub async fn trim_replicated(
        &self,
        story: &StoryId,
        keep: Retention,
    ) -> Result<(u64, Replicated), Error> {
        let mut call = TRIM.call();
        call.key(self.keys.ctx(story))
            .key(self.keys.log(story))
            .key(self.keys.gone(story));
        call.number(keep.events)
            .number(u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX))
            .number(PAGE);
        let (mut removed, mut fewest) = (0, Replicated::Unasked);
        loop {
            let (reply, replicated) = call.run_until_replicated(&self.writing).await?;
            match read::<u64>(reply)? {
                0 => return Ok((removed, fewest)),
                more => removed += more,
            }
            fewest = fewest.or_fewer(replicated);
        }
    }
}
