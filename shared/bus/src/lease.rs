//! The leases of entries in flight: kept, let go, taken over. Also who takes part, and how much there is to do.

use std::collections::BTreeMap;
use std::time::Duration;

use story::{Agent, StoryId};

use crate::reply::{Fields, read};
use crate::script::{JANITOR, RECLAIM, RELEASE, RENEW};
use crate::work::work;
use crate::{Bus, Delivery, Error, LeaseId};

/// Where the next look for abandoned entries goes on, in each shard. It must be carried from look to look: from the
/// start each time, entries behind many young ones would never be seen.
#[derive(Debug, Clone, Default)]
pub struct ReclaimCursor {
    at: BTreeMap<u16, String>,
    over: bool,
}

const START: &str = "0-0";

/// An entry that was taken over, and how often it was delivered.
type Claimed = (String, u32, Fields);

impl ReclaimCursor {
    /// Whether every pending list was looked at to its end; the next look begins anew.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl Bus {
    /// Keeps the leases that `consumer` still holds; gives those that it lost, whose work is to be dropped at once. On a
    /// connection of its own, so that it never waits behind other work.
    ///
    /// # Errors
    /// When Redis was not reached; then nothing is known of any of them.
    pub async fn renew(
        &self,
        agent: Agent,
        consumer: &str,
        leases: &[LeaseId],
    ) -> Result<Vec<LeaseId>, Error> {
        let mut lost = Vec::new();
        for (shard, entries) in by_shard(leases) {
            let mut call = RENEW.call();
            call.key(self.keys.work(agent, shard)).arg(consumer);
            for entry in entries {
                call.arg(entry);
            }
            let reply = match call.run(&self.renewing).await {
                // Nobody else uses the connection: that Redis was restarted may show only now, and the next time to
                // renew may be too late.
                Err(Error::Unreachable(_)) => call.run(&self.renewing).await?,
                reply => reply?,
            };
            let entries: Vec<String> = read(reply)?;
            lost.extend(entries.into_iter().map(|entry| LeaseId { shard, entry }));
        }
        Ok(lost)
    }

    /// Lets entries go at drain: any worker can claim them at once, and this delivery does not count as an attempt.
    /// `lease` is that of the fleet.
    ///
    /// # Errors
    /// When Redis was not reached; then the entries are claimed when their lease runs out.
    pub async fn release(
        &self,
        agent: Agent,
        consumer: &str,
        lease: Duration,
        leases: &[LeaseId],
    ) -> Result<(), Error> {
        for (shard, entries) in by_shard(leases) {
            let mut call = RELEASE.call();
            call.key(self.keys.work(agent, shard))
                .arg(consumer)
                .number(millis(lease));
            for entry in entries {
                call.arg(entry);
            }
            // Not sent again when the reply is lost: it would take the attempt off twice.
            call.run(&self.link).await?;
        }
        Ok(())
    }

    /// Takes over up to `count` entries whose owner was silent for `lease`, going on from `cursor`. An
    /// entry that `consumer` itself let grow old is among them: whoever still works on it drops the second delivery.
    ///
    /// # Errors
    /// When Redis was not reached; then what was claimed comes again when its lease runs out.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is of the caller's own choosing"
    )]
    pub async fn reclaim(
        &self,
        agent: Agent,
        consumer: &str,
        lease: Duration,
        cursor: &mut ReclaimCursor,
        count: usize,
    ) -> Result<Vec<Delivery>, Error> {
        if cursor.over {
            *cursor = ReclaimCursor::default();
        }
        let mut found = Vec::new();
        for shard in self.keys.shards() {
            let at = cursor.at.entry(shard).or_default();
            if at == START || found.len() >= count {
                continue;
            }
            let mut call = RECLAIM.call();
            call.key(self.keys.work(agent, shard))
                .arg(consumer)
                .number(millis(lease))
                .arg(if at.is_empty() { START } else { at.as_str() })
                .arg((count - found.len()).to_string());
            let page: Result<(String, Vec<Claimed>), Error> =
                call.run(&self.link).await.and_then(read);
            let (next, claimed) = match page {
                Ok(page) => page,
                // What the other shards gave is ours: dropping it would leave it to its lease.
                Err(_) if !found.is_empty() => return Ok(found),
                Err(error) => return Err(error),
            };
            *at = next;
            found.extend(
                claimed
                    .into_iter()
                    .map(|(entry, deliveries, fields)| Delivery {
                        agent,
                        consumer: consumer.to_owned(),
                        lease: LeaseId { shard, entry },
                        deliveries,
                        work: work(&fields, &self.keys, shard),
                    }),
            );
        }
        cursor.over = cursor.at.values().all(|at| at == START);
        Ok(found)
    }

    /// Waiting and in flight, exactly: the scaling signal. Parked events are not counted: no second worker could
    /// answer them sooner.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn backlog(&self, agent: Agent) -> Result<u64, Error> {
        let mut backlog = 0;
        for shard in self.keys.shards() {
            let mut cmd = redis::cmd("XLEN");
            cmd.arg(self.keys.work(agent, shard));
            backlog += read::<u64>(self.link.query(&cmd).await?)?;
        }
        Ok(backlog)
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
    /// When Redis was not reached.
    pub async fn remove_idle_consumers(
        &self,
        agent: Agent,
        idle: Duration,
    ) -> Result<Vec<String>, Error> {
        let mut removed = Vec::new();
        for shard in self.keys.shards() {
            let mut call = JANITOR.call();
            call.key(self.keys.work(agent, shard)).number(millis(idle));
            removed.extend(read::<Vec<String>>(call.run(&self.link).await?)?);
        }
        Ok(removed)
    }
}

fn by_shard(leases: &[LeaseId]) -> BTreeMap<u16, Vec<&str>> {
    let mut shards = BTreeMap::<u16, Vec<&str>>::new();
    for lease in leases {
        shards.entry(lease.shard).or_default().push(&lease.entry);
    }
    shards
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
