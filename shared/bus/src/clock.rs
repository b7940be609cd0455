//! This machine's clock against Redis's, by which events are told. Tokens count by this machine's: where it is wrong, good
//! ones are refused or old ones taken, and nothing else would show why.

use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};

use crate::reply::read;
use crate::script::Script;
use crate::{Bus, Error};

/// By a key, since a cluster answers a bare TIME from any of its nodes: two looks would tell of two clocks.
static CLOCK: Script = Script::new("return redis.call('TIME')");

/// Clocks that are kept differ by less.
const APART: SignedDuration = SignedDuration::from_secs(30);

impl Bus {
    /// What is wrong with this machine's clock, or with that of a Redis that holds a shard, if they are far apart. Of
    /// several that are, the first shard's is told.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn clock(&self) -> Result<Option<String>, Error> {
        // One that nobody serves has no clock.
        let shards = self.coverage.shards().await.into_iter();
        let shards = shards.map(|shard| self.clock_of(shard));
        Ok(try_join_all(shards).await?.into_iter().flatten().next())
    }

    async fn clock_of(&self, shard: u16) -> Result<Option<String>, Error> {
        let mut call = CLOCK.call();
        call.key(self.keys.probe(shard));
        let before = Timestamp::now();
        let (seconds, micros): (i64, i32) = read(call.run_alone(&self.link).await?)?;
        let theirs =
            Timestamp::new(seconds, micros * 1_000).map_err(|e| Error::data(e.to_string()))?;
        // Redis looked between the two: how long it took to ask is no difference.
        Ok(concern(
            before.duration_since(theirs),
            Timestamp::now().duration_since(theirs),
        ))
    }
}

/// `least` and `most` by which this clock is ahead.
fn concern(least: SignedDuration, most: SignedDuration) -> Option<String> {
    let (apart, way) = if least > APART {
        (most, "ahead of")
    } else if most < -APART {
        (-least, "behind")
    } else {
        return None;
    };
    Some(format!(
        "this machine's clock is {} s {way} Redis's: set the wrong one right (NTP); until then tokens end too early or too late",
        apart.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_far_apart_are_told_of_and_a_slow_answer_is_not() {
        let concern = |least, most| {
            concern(
                SignedDuration::from_secs(least),
                SignedDuration::from_secs(most),
            )
        };
        for (least, most) in [(0, 0), (-29, 1), (-60, 60), (30, 40), (-40, -30)] {
            assert_eq!(concern(least, most), None, "{least} {most}");
        }
        let ahead = concern(3_599, 3_600).unwrap();
        assert!(ahead.contains("3600 s ahead of Redis's"), "{ahead}");
        let behind = concern(-3_600, -3_599).unwrap();
        assert!(behind.contains("3600 s behind Redis's"), "{behind}");
    }
}
