//! The leases of entries in flight: kept, let go, taken over. Also who takes part, and how much there is to do.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use story::{Agent, StoryId};

use crate::reply::{Fields, read};
use crate::script::{JANITOR, RECLAIM, RELEASE, RENEW};
use crate::work::work;
use crate::{Bus, Delivery, Error, LeaseId};

/// An entry that was taken over, how often it was delivered, and who had it.
type Claimed = (String, u32, String, Fields);

/// How old an entry is made that its worker lets go, ten years: no worker that lives is silent for so long, so that it can
/// be told from what one may still hold while Redis is away.
const LET_GO: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// While Redis was away nobody could renew: this and a third of the lease is what the living need to do so, since they
/// wait up to 2 s to connect anew.
const BACK: Duration = Duration::from_secs(3);

/// For how long after Redis was away nothing may be taken over but what was let go. Whoever took the events of the living
/// would pay for them again, and charge an attempt; what was let go nobody holds.
#[must_use]
pub fn grace(lease: Duration) -> Duration {
    lease / 3 + BACK
}

/// Leases that a consumer does not hold any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// Another consumer has them: their work is to be dropped at once.
    pub taken: Vec<LeaseId>,
    /// Nobody has them: they were ended, perhaps by this consumer just now, or their group is gone.
    pub gone: Vec<LeaseId>,
}

/// Not all leases could be asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Unrenewed {
    /// Of those that could.
    pub lost: Lost,
    /// The first.
    pub error: Error,
}

impl Lost {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.gone.is_empty()
    }

    fn add(&mut self, more: Self) {
        self.taken.extend(more.taken);
        self.gone.extend(more.gone);
    }
}

impl Bus {
    /// Keeps the leases that `consumer` still holds; gives those that it lost. On a connection of its own, so that it
    /// never waits behind other work. All shards are asked at once, and of one that nobody serves nothing is told.
    ///
    /// # Errors
    /// Where Redis was not reached in some shard: of its leases nothing is known, and what the others lost is told beside.
    pub async fn renew(
        &self,
        agent: Agent,
        consumer: &str,
        leases: &[LeaseId],
    ) -> Result<Lost, Unrenewed> {
        let mut leases = by_shard(leases);
        // Nobody else can take those over either.
        leases.retain(|shard, _| !self.coverage.leaves_out(*shard));
        let renewals = leases.into_iter().map(async |(shard, leases)| {
            let told = self.renew_in(agent, shard, consumer, leases).await;
            (shard, told)
        });
        let (mut lost, mut failed) = (Lost::default(), Vec::new());
        for (shard, told) in join_all(renewals).await {
            match told {
                Ok(more) => lost.add(more),
                Err(error) => failed.push((shard, error)),
            }
        }
        match self.coverage.excuse(failed) {
            None => Ok(lost),
            Some(error) => Err(Unrenewed { lost, error }),
        }
    }

    async fn renew_in(
        &self,
        agent: Agent,
        shard: u16,
        consumer: &str,
        leases: Vec<&LeaseId>,
    ) -> Result<Lost, Error> {
        let mut call = RENEW.call();
        call.key(self.keys.work(agent, shard)).arg(consumer);
        for lease in leases {
            call.arg(lease.entry.as_str());
        }
        let reply = match call.run(&self.renewing).await {
            // Nobody else uses the connection: that Redis was restarted may show only now, and the next time to
            // renew may be too late.
            Err(Error::Unreachable(_)) => call.run(&self.renewing).await,
            reply => reply,
        };
        let (taken, gone): (Vec<String>, Vec<String>) = read(reply?)?;
        let leases = |entries: Vec<String>| {
            let leases = entries.into_iter().map(|entry| LeaseId { shard, entry });
            leases.collect()
        };
        Ok(Lost {
            taken: leases(taken),
            gone: leases(gone),
        })
    }

    /// Lets entries go at drain: any worker can claim them at once, and this delivery does not count as an attempt. All
    /// shards are asked at once.
    ///
    /// # Errors
    /// Where Redis was not reached in some shard; then its entries are claimed when their lease runs out.
    pub async fn release(
        &self,
        agent: Agent,
        consumer: &str,
        leases: &[LeaseId],
    ) -> Result<(), Error> {
        let leases = by_shard(leases).into_iter();
        let releases = leases.map(async |(shard, leases)| {
            let mut call = RELEASE.call();
            call.key(self.keys.work(agent, shard))
                .arg(consumer)
                .number(millis(LET_GO));
            for lease in leases {
                call.arg(lease.entry.as_str());
            }
            // Once: who drains has no time to ask again, and a lease runs out by itself.
            call.run(&self.link).await.map(drop)
        });
        join_all(releases).await.into_iter().collect()
    }

    /// Takes over up to `count` entries whose owner was silent for `lease`; when it is fewer there are no more. An entry
    /// that `consumer` itself let grow old is among them. Shards are asked at once: one that hangs keeps no entry of another
    /// from being taken over. Where nobody served a shard until just now, only what was let go is taken.
    ///
    /// # Errors
    /// When Redis was not reached in some shard that somebody serves, and the others gave nothing.
    pub async fn reclaim(
        &self,
        agent: Agent,
        consumer: &str,
        lease: Duration,
        count: usize,
    ) -> Result<Vec<Delivery>, Error> {
        let claim = async |shard: u16, share: usize| {
            let mut call = RECLAIM.call();
            let age = match self.coverage.is_just_back(shard, grace(lease)) {
                true => LET_GO,
                false => lease,
            };
            call.key(self.keys.work(agent, shard))
                .arg(consumer)
                .number(millis(age))
                .arg(share.to_string());
            let claimed: Vec<Claimed> = read(call.run(&self.link).await?)?;
            let claimed = claimed.into_iter();
            let claimed = claimed.map(|(entry, deliveries, owner, fields)| Delivery {
                agent,
                consumer: consumer.to_owned(),
                lease: LeaseId { shard, entry },
                deliveries,
                taken_from: Some(owner),
                work: work(&fields, &self.keys, shard),
            });
            Ok::<Vec<_>, Error>(claimed.collect())
        };
        let mut shards = self.coverage.shards().await;
        // Where there is less room than shards none is always the last.
        let first = rand::random_range(0..shards.len());
        shards.rotate_left(first);
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        while found.len() < count && !shards.is_empty() {
            let left = count - found.len();
            let share = (left / shards.len()).max(1);
            let claims = shards.drain(..left.min(shards.len())).map(|shard| {
                let claiming = claim(shard, share);
                async move { (shard, claiming.await) }
            });
            for (shard, claimed) in join_all(claims.collect::<Vec<_>>()).await {
                match claimed {
                    Ok(claimed) => {
                        // There may be more.
                        if claimed.len() == share {
                            shards.push(shard);
                        }
                        found.extend(claimed);
                    }
                    Err(error) => failed.push((shard, error)),
                }
            }
        }
        // What some shards gave is ours, and its lease runs: dropping it would leave it to that.
        if !found.is_empty() {
            return Ok(found);
        }
        if failed.iter().any(|(_, error)| error.is_away()) {
            self.coverage.look().await;
        }
        match self.coverage.excuse(failed) {
            None => Ok(found),
            Some(error) => Err(error),
        }
    }

    /// Takes over up to `count` entries that their workers let go, and no others; when it is fewer there are no more.
    ///
    /// # Errors
    /// As [`Bus::reclaim`].
    pub async fn take_let_go(
        &self,
        agent: Agent,
        consumer: &str,
        count: usize,
    ) -> Result<Vec<Delivery>, Error> {
        self.reclaim(agent, consumer, LET_GO, count).await
    }

    /// Waiting and in flight, exactly: the scaling signal. Parked events are not counted: no second worker could
    /// answer them sooner.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn backlog(&self, agent: Agent) -> Result<u64, Error> {
        let keys = self.keys.shards().map(|shard| self.keys.work(agent, shard));
        self.lengths(keys).await
    }

    /// How many entries streams have in all, whatever shards they are of.
    pub(crate) async fn lengths(&self, keys: impl Iterator<Item = String>) -> Result<u64, Error> {
        let length = |key| {
            let mut cmd = redis::cmd("XLEN");
            cmd.arg(key);
            cmd
        };
        let lengths = self
            .link
            .each(&keys.map(length).collect::<Vec<_>>())
            .await?;
        lengths.into_iter().map(read::<u64>).sum()
    }

    /// Whether nothing of the story is in flight or waits for its turn.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn is_idle(&self, story: &StoryId) -> Result<bool, Error> {
        // A lane in which anything is has a turn.
        let mut cmd = redis::cmd("EXISTS");
        for agent in Agent::ALL {
            cmd.arg(self.keys.lane(agent, story).turn);
        }
        Ok(read::<u64>(self.link.query(&cmd).await?)? == 0)
    }

    /// Forgets the agent's consumers that hold nothing and were not heard of for `idle`; gives their names.
    ///
    /// # Errors
    /// Where Redis was not reached in some shard; those of the others are forgotten.
    pub async fn remove_idle_consumers(
        &self,
        agent: Agent,
        idle: Duration,
    ) -> Result<Vec<String>, Error> {
        let shards = self.coverage.shards().await.into_iter();
        let removals = shards.map(async |shard| {
            let mut call = JANITOR.call();
            call.key(self.keys.work(agent, shard)).number(millis(idle));
            read::<Vec<String>>(call.run(&self.link).await?)
        });
        // Each is asked, whatever comes of another.
        let removed: Result<Vec<_>, _> = join_all(removals).await.into_iter().collect();
        Ok(removed?.concat())
    }
}

/// Leases of one shard each.
#[must_use]
pub fn by_shard(leases: &[LeaseId]) -> BTreeMap<u16, Vec<&LeaseId>> {
    let mut shards = BTreeMap::<u16, Vec<&LeaseId>>::new();
    for lease in leases {
        shards.entry(lease.shard).or_default().push(lease);
    }
    shards
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
