//! Which slots of a cluster somebody serves. Where a slot has lost its master and no replica takes over, shards elsewhere go
//! on: asking for this one would only hold them up until there is no answer in time.

use std::collections::BTreeSet;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{RedisError, from_redis_value};
use tokio::time::{Instant, timeout};

use crate::Error;
use crate::keys::{Keys, slot};
use crate::link::Link;

/// Of every cluster.
const SLOTS: usize = 16_384;
/// How long a node may take to be found and to tell who serves what: it is asked after something else took too long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks while shards are left out.
const EVERY: Duration = Duration::from_secs(1);
/// In the error of what was asked in vain.
pub(crate) const UNSERVED: &str = "slots of this cluster are served by nobody";

/// Those that masters serve, as a node tells it.
struct Slots(Vec<RangeInclusive<u16>>);

impl Slots {
    /// Out of CLUSTER NODES. A line is: id, address, flags, master, ping, pong, epoch, link, then slots.
    fn of(nodes: &str) -> Self {
        let mut served = Vec::new();
        for line in nodes.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let flags = words.get(2).copied().unwrap_or_default();
            if !flags.split(',').any(|flag| flag == "fail") {
                let slots = words.get(8..).unwrap_or_default();
                served.extend(slots.iter().filter_map(|slots| range(slots)));
            }
        }
        Self(served)
    }

    fn has(&self, slot: u16) -> bool {
        self.0.iter().any(|served| served.contains(&slot))
    }

    fn missing(&self) -> usize {
        let served = self.0.iter().map(|served| served.len());
        SLOTS.saturating_sub(served.sum())
    }
}

/// One that is on its way to another node is in brackets, and among the others too.
fn range(slots: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// What a node tells, if one answers.
async fn slots(wire: &mut ClusterConnection) -> Option<Slots> {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("NODES");
    let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
    let told = wire.route_command(cmd, anybody).await;
    let nodes: String = from_redis_value(told.ok()?).ok()?;
    Some(Slots::of(&nodes))
}

/// The error of a command, with what the client leaves out: it tries again until its time is over, and tells that alone.
pub(crate) async fn explained(mut wire: ClusterConnection, error: RedisError) -> RedisError {
    if !error.is_io_error() {
        return error;
    }
    let kind = match error.is_timeout() {
        true => io::ErrorKind::TimedOut,
        false => io::ErrorKind::Other,
    };
    let slots = timeout(PATIENCE, slots(&mut wire)).await.ok().flatten();
    match slots.map(|slots| slots.missing()) {
        None | Some(0) => error,
        Some(missing) => {
            let told = format!("{missing} of the {SLOTS} {UNSERVED}: {error}");
            io::Error::new(kind, told).into()
        }
    }
}

/// The shards that are asked. Cheap to clone, and all clones know the same.
#[derive(Clone)]
pub(crate) struct Coverage {
    keys: Keys,
    /// `None` = no cluster: all of them are.
    link: Option<Link>,
    left_out: Arc<Mutex<LeftOut>>,
}

struct LeftOut {
    shards: BTreeSet<u16>,
    /// When it was last looked at.
    seen: Instant,
}

impl Coverage {
    pub(crate) fn new(keys: Keys, link: Option<Link>) -> Self {
        let left_out = LeftOut {
            shards: BTreeSet::new(),
            seen: Instant::now(),
        };
        Self {
            keys,
            link,
            left_out: Arc::new(Mutex::new(left_out)),
        }
    }

    /// All that somebody serves, as far as is known; all that there are when nobody serves any.
    pub(crate) async fn shards(&self) -> Vec<u16> {
        let is_time = {
            let left_out = self.left_out();
            !left_out.shards.is_empty() && left_out.seen.elapsed() >= EVERY
        };
        if is_time {
            self.look().await;
        }
        let left_out = self.left_out();
        let is_asked = |shard: &u16| !left_out.shards.contains(shard);
        let asked: Vec<u16> = self.keys.shards().filter(is_asked).collect();
        if asked.is_empty() {
            self.keys.shards().collect()
        } else {
            asked
        }
    }

    /// One that was asked gave no answer: others are asked without it, if nobody serves it.
    pub(crate) async fn doubt(&self, error: &Error) {
        if error.is_away() {
            self.look().await;
        }
    }

    /// Asks who serves what.
    pub(crate) async fn look(&self) {
        let Some(link) = &self.link else {
            return;
        };
        // One looks for all who come meanwhile.
        self.left_out().seen = Instant::now();
        let told = timeout(PATIENCE, async { slots(&mut link.cluster().await?).await });
        let slots = told.await.ok().flatten();
        let mut left_out = self.left_out();
        // Whoever does not tell changes nothing.
        if let Some(slots) = slots {
            let is_served = |shard: &u16| slots.has(slot(&shard.to_string()));
            let shards = self.keys.shards().filter(|shard| !is_served(shard));
            left_out.shards = shards.collect();
        }
    }

    fn left_out(&self) -> MutexGuard<'_, LeftOut> {
        // Nothing panics while it is held.
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_master_has_is_served_by_nobody() {
        let nodes = "\
a 127.0.0.1:1@2,host myself,master - 0 1 1 connected 0-5460 [5461->-b]
b 127.0.0.1:3@4 master,fail - 0 1 2 disconnected 5461-10922
c 127.0.0.1:5@6 master,fail? - 0 1 3 connected 10923 10925-16383
d 127.0.0.1:7@8 slave b 0 1 2 connected
";
        let slots = Slots::of(nodes);
        let served = [0, 5460, 5461, 10922, 10923, 10924, 16383].map(|slot| slots.has(slot));
        assert_eq!(served, [true, true, false, false, true, false, true]);
        assert_eq!(slots.missing(), 5_462 + 1);
    }
}
