//! Which slots of a cluster somebody serves. Where a slot has lost its master and no replica takes over, shards elsewhere go
//! on: asking for this one would only hold them up until there is no answer in time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::RedisError;
use redis::cluster_async::ClusterConnection;
use tokio::time::{Instant, timeout};

use crate::Error;
use crate::cluster::{PATIENCE, ask_any, nodes};
use crate::keys::{Keys, slot};
use crate::link::Link;

/// Of every cluster.
const SLOTS: usize = 16_384;
/// Between two looks while shards are left out.
const EVERY: Duration = Duration::from_secs(1);
/// In the error of what was asked in vain.
pub(crate) const UNSERVED: &str = "slots of this cluster are served by nobody";
/// The same of a cluster that then answers nothing at all.
pub(crate) const DOWN: &str = "CLUSTERDOWN, this cluster answers nothing";

/// What a node tells of its cluster.
struct Slots {
    /// Of each master that is not known to have failed.
    served: Vec<Vec<RangeInclusive<u16>>>,
    /// Whether one is away, whether the others have agreed on that or not.
    is_one_away: bool,
    /// Whether it answers nothing, of any slot.
    is_down: bool,
}

impl Slots {
    /// Out of CLUSTER NODES.
    fn of(told: &str) -> Self {
        let mut served = Vec::new();
        let mut is_one_away = false;
        for node in nodes(told) {
            let has_failed = node.is("fail");
            is_one_away |= node.is("master") && (has_failed || node.is("fail?"));
            if !has_failed {
                let slots = node.slots.into_iter().filter_map(range);
                served.push(slots.collect());
            }
        }
        Self {
            served,
            is_one_away,
            is_down: false,
        }
    }

    /// Which of its masters has the slot.
    fn master_of(&self, slot: u16) -> Option<usize> {
        let has = |slots: &Vec<RangeInclusive<u16>>| slots.iter().any(|some| some.contains(&slot));
        self.served.iter().position(has)
    }

    fn missing(&self) -> usize {
        let served = self.served.iter().flatten().map(|served| served.len());
        SLOTS.saturating_sub(served.sum())
    }

    /// The first slots that nobody serves, which are enough to find their node.
    fn gap(&self) -> Option<RangeInclusive<u16>> {
        let is_missing = |slot: &u16| self.master_of(*slot).is_none();
        let all = || 0..=u16::try_from(SLOTS - 1).unwrap_or(u16::MAX);
        let first = all().find(is_missing)?;
        let last = all().skip(first.into()).take_while(is_missing).last()?;
        Some(first..=last)
    }

    /// What is wrong with them, if anything is.
    fn trouble(&self) -> Option<String> {
        let gap = self.gap().map(|gap| {
            let (missing, first, last) = (self.missing(), gap.start(), gap.end());
            format!("{missing} of the {SLOTS} {UNSERVED}, from {first} to {last} first")
        });
        match (self.is_down, gap) {
            (false, gap) => gap,
            (true, None) => Some(format!(
                "{DOWN}: it says that too few of its masters are there"
            )),
            (true, Some(gap)) => Some(format!(
                "{DOWN}, as cluster-require-full-coverage has it: {gap}"
            )),
        }
    }
}

/// None of what is on its way to another node.
fn range(slots: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// What a node tells, if one answers.
async fn slots(wire: &mut ClusterConnection) -> Option<Slots> {
    let mut slots = Slots::of(&ask_any(wire, "NODES").await?);
    // Users of an older release may not ask that: where all is well nobody does, since Redis logs who is denied.
    if slots.is_one_away || slots.missing() > 0 {
        let info = ask_any(wire, "INFO").await;
        slots.is_down = info.is_some_and(|info| info.contains("cluster_state:fail"));
    }
    Some(slots)
}

/// The error of a command, with what the client leaves out: it tries again until its time is over, and tells that alone.
pub(crate) async fn explained(mut wire: ClusterConnection, error: RedisError) -> RedisError {
    // The last node asked may be one that names a node that is gone.
    if !error.is_io_error() && error.redirect_node().is_none() {
        return error;
    }
    let kind = match error.is_timeout() {
        true => io::ErrorKind::TimedOut,
        false => io::ErrorKind::Other,
    };
    let slots = timeout(PATIENCE, slots(&mut wire)).await.ok().flatten();
    match slots.and_then(|slots| slots.trouble()) {
        None if error.is_io_error() => error,
        None => io::Error::new(
            kind,
            format!("nobody answers where the cluster says: {error}"),
        )
        .into(),
        Some(trouble) => io::Error::new(kind, format!("{trouble}: {error}")).into(),
    }
}

/// What of a cluster is out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unserved {
    /// All of it: it answers nothing, whatever is asked for.
    pub is_down: bool,
    /// In words: which slots, and which shards.
    pub why: String,
}

/// The shards that are asked. Cheap to clone, and all clones know the same.
#[derive(Clone)]
pub(crate) struct Coverage {
    keys: Keys,
    /// `None` = no cluster: all of them are.
    cluster: Option<Cluster>,
    left_out: Arc<Mutex<LeftOut>>,
}

/// How a cluster is asked.
#[derive(Clone)]
struct Cluster {
    /// Of its own, and kept open: to connect while a node hangs takes longer than to ask.
    link: Link,
    /// What a look takes at most: to connect, and to ask a second node when the first hangs.
    longest: Duration,
}

struct LeftOut {
    shards: BTreeSet<u16>,
    unserved: Option<Unserved>,
    /// Those that were among them, and when they no longer were.
    back: BTreeMap<u16, Instant>,
    /// One of those that are asked for each master.
    of_each_master: Vec<u16>,
    /// When it was last looked at.
    seen: Instant,
}

impl Cluster {
    /// What a node tells, if one answers.
    async fn ask(&self) -> Option<Slots> {
        let asked = async {
            let (generation, mut wire) = self.link.cluster().await?;
            let told = timeout(2 * PATIENCE, slots(&mut wire)).await.ok().flatten();
            if told.is_none() {
                self.link.lose(generation);
            }
            told
        };
        timeout(self.longest, asked).await.ok().flatten()
    }
}

impl Coverage {
    /// Of no cluster.
    pub(crate) fn whole(keys: Keys) -> Self {
        Self::new(keys, None)
    }

    /// Of the one that `link` leads to, which takes `connect` at most to be connected.
    pub(crate) fn of_cluster(keys: Keys, link: &Link, connect: Duration) -> Self {
        let cluster = Cluster {
            link: link.apart(PATIENCE),
            longest: connect + 2 * PATIENCE,
        };
        Self::new(keys, Some(cluster))
    }

    fn new(keys: Keys, cluster: Option<Cluster>) -> Self {
        let left_out = LeftOut {
            shards: BTreeSet::new(),
            unserved: None,
            back: BTreeMap::new(),
            of_each_master: Vec::new(),
            seen: Instant::now(),
        };
        Self {
            keys,
            cluster,
            left_out: Arc::new(Mutex::new(left_out)),
        }
    }

    /// All that somebody serves, as far as is known; all that there are when nobody serves any.
    pub(crate) async fn shards(&self) -> Vec<u16> {
        let is_time = {
            let left_out = self.left_out();
            left_out.unserved.is_some() && left_out.seen.elapsed() >= EVERY
        };
        if is_time {
            self.look().await;
        }
        self.known()
    }

    /// The same without a look: for who has no time for one.
    pub(crate) fn known(&self) -> Vec<u16> {
        let left_out = self.left_out();
        let is_asked = |shard: &u16| !left_out.shards.contains(shard);
        let asked: Vec<u16> = self.keys.shards().filter(is_asked).collect();
        if asked.is_empty() {
            self.keys.shards().collect()
        } else {
            asked
        }
    }

    /// Some that were asked gave no answer. Gives whether nobody serves one of them, so that the others are asked without it.
    pub(crate) async fn doubt(&self, error: &Error, asked: &[u16]) -> bool {
        if !error.is_away() {
            return false;
        }
        self.look().await;
        asked.iter().any(|&shard| self.leaves_out(shard))
    }

    /// Whether it was served by nobody at the last look, while others were.
    pub(crate) fn leaves_out(&self, shard: u16) -> bool {
        let left_out = self.left_out();
        left_out.shards.contains(&shard) && left_out.shards.len() < self.keys.shards().len()
    }

    /// Whether nobody had served it until less than `time` ago.
    pub(crate) fn is_just_back(&self, shard: u16, time: Duration) -> bool {
        let left_out = self.left_out();
        let back = left_out.back.get(&shard);
        back.is_some_and(|back| back.elapsed() < time)
    }

    /// The first of the errors that is not of a shard which nobody serves: there is nothing to be had there.
    pub(crate) fn excuse(&self, failed: Vec<(u16, Error)>) -> Option<Error> {
        let is_excused = |(shard, error): &(u16, Error)| error.is_away() && self.leaves_out(*shard);
        let first = failed.into_iter().find(|failed| !is_excused(failed));
        first.map(|(_, error)| error)
    }

    /// One shard of each master that serves any, as far as is known; one of them all before anybody told.
    pub(crate) async fn shard_of_each_master(&self) -> Vec<u16> {
        if self.left_out().of_each_master.is_empty() {
            self.look().await;
        }
        let known = self.left_out().of_each_master.clone();
        if known.is_empty() {
            self.keys.shards().take(1).collect()
        } else {
            known
        }
    }

    /// What was out of reach at the last look.
    pub(crate) fn unserved(&self) -> Option<Unserved> {
        self.left_out().unserved.clone()
    }

    /// Asks who serves what; only a change is logged.
    pub(crate) async fn look(&self) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        // Who only wants to know which shards are asked does not look as well.
        self.left_out().seen = Instant::now();
        // Whoever does not tell changes nothing.
        let Some(slots) = cluster.ask().await else {
            return;
        };
        let (mut shards, mut of_each_master) = (BTreeSet::new(), BTreeMap::new());
        for shard in self.keys.shards() {
            match slots.master_of(slot(&shard.to_string())) {
                None => _ = shards.insert(shard),
                Some(master) => _ = of_each_master.entry(master).or_insert(shard),
            }
        }
        let unserved = self.unreachable(&slots, &shards);
        let before = {
            let mut left_out = self.left_out();
            let LeftOut {
                shards: before,
                back,
                ..
            } = &mut *left_out;
            let now = Instant::now();
            back.extend(before.difference(&shards).map(|shard| (*shard, now)));
            *before = shards;
            left_out.of_each_master = of_each_master.into_values().collect();
            std::mem::replace(&mut left_out.unserved, unserved.clone())
        };
        match (before, unserved) {
            (before, Some(now)) if before.as_ref() != Some(&now) => tracing::warn!("{}", now.why),
            (Some(_), None) => tracing::warn!("all shards of the cluster are served again"),
            _ => {}
        }
    }

    fn unreachable(&self, slots: &Slots, shards: &BTreeSet<u16>) -> Option<Unserved> {
        let is_down = slots.is_down;
        if !is_down && shards.is_empty() {
            return None;
        }
        let trouble = slots.trouble()?;
        let numbers: Vec<String> = shards.iter().map(u16::to_string).collect();
        let (numbers, all) = (numbers.join(", "), self.keys.shards().len());
        let why = match is_down {
            true => trouble,
            false => format!(
                "{trouble}; stories of these of the {all} shards wait, and all others go on: {numbers}"
            ),
        };
        Some(Unserved { is_down, why })
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
        let served = [0, 5460, 5461, 10922, 10923, 10924, 16383];
        let served = served.map(|slot| slots.master_of(slot).is_some());
        assert_eq!(served, [true, true, false, false, true, false, true]);
        assert_eq!(slots.missing(), 5_462 + 1);
        assert_eq!(slots.gap(), Some(5_461..=10_922));
        assert!(slots.is_one_away);
    }
}
