//! Reads new entries of an agent's work streams, on a connection of its own: a blocking read stops all that is behind
//! it. It never reads ahead: an entry is delivered when there is a free slot for it, and its lease starts then.

use std::time::Duration;

use redis::{Cmd, Value};
use story::Agent;

use crate::coverage::Coverage;
use crate::keys::{GROUP, Keys};
use crate::lease::millis;
use crate::link::Link;
use crate::reply::{Entry, read};
use crate::work::work;
use crate::{Bus, Delivery, Error, LeaseId};

/// How long one call waits for an entry.
const BLOCK: Duration = Duration::from_secs(2);

/// How long it waits on some of the shards before it looks at them all again.
const TURN: Duration = Duration::from_millis(50);

/// One consumer of one agent's work.
pub struct Reader {
    keys: Keys,
    coverage: Coverage,
    link: Link,
    agent: Agent,
    consumer: String,
    /// The shard to look at first, so that a busy one does not starve the others.
    first: usize,
    /// How many streams one command may name: those of a cluster are in different slots.
    together: usize,
    /// The longest that one call waits for an entry.
    block: Duration,
}

impl Bus {
    /// `consumer` names this life of this process: no two of them are ever the same.
    #[must_use]
    pub fn reader(&self, agent: Agent, consumer: &str) -> Reader {
        let (together, block) = match self.topology.is_cluster() {
            // A master that hangs is found out as soon as on other connections.
            true if self.settings.shards > 1 => (1, TURN),
            true => (1, BLOCK),
            false => (usize::MAX, BLOCK),
        };
        let answer = block + Duration::from_secs(1);
        Reader {
            keys: self.keys.clone(),
            coverage: self.coverage.clone(),
            // What the others have found dead it does not wait for, and the other way round.
            link: self.link.beside(answer.max(self.settings.timeout)),
            agent,
            consumer: consumer.to_owned(),
            first: 0,
            together,
            block,
        }
    }
}

impl Reader {
    /// Up to `free` new entries, oldest first; empty when none came within 2 s, sooner where there are several shards. Makes the
    /// group where it is missing.
    ///
    /// Not cancel-safe: what Redis delivered to a dropped call is claimed when its lease runs out.
    ///
    /// # Errors
    /// When Redis was not reached; the next call reconnects, with growing waits.
    pub async fn next(&mut self, free: usize) -> Result<Vec<Delivery>, Error> {
        self.next_within(free, BLOCK).await
    }

    /// The same, for who has something else to do in less than 2 s.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next_within(
        &mut self,
        free: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, Error> {
        if free == 0 {
            return Ok(Vec::new());
        }
        let read = self.around(free, wait.min(self.block)).await;
        if let Err(error) = &read {
            self.coverage.doubt(error).await;
        }
        read
    }

    async fn around(&mut self, free: usize, wait: Duration) -> Result<Vec<Delivery>, Error> {
        // COUNT is for each stream, and no more may come than there are free slots.
        let together = free.min(self.together);
        let all = self.coverage.shards().await;
        if together >= all.len() {
            return self.read(&all, free, Some(wait)).await;
        }
        self.first = (self.first + 1) % all.len();
        let circle = [&all[self.first..], &all[..self.first]].concat();
        let mut found = Vec::new();
        for shards in circle.chunks(together) {
            let left = free - found.len();
            let shards = &shards[..left.min(shards.len())];
            if shards.is_empty() {
                break;
            }
            match self.read(shards, left, None).await {
                Ok(more) => found.extend(more),
                // As below: what the other shards gave is ours.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() {
            let wait = wait.min(TURN);
            return self.read(&circle[..together], free, Some(wait)).await;
        }
        Ok(found)
    }

    /// At most `free` entries, of no more shards than that: all that there are.
    async fn read(
        &self,
        shards: &[u16],
        free: usize,
        block: Option<Duration>,
    ) -> Result<Vec<Delivery>, Error> {
        let share = free / shards.len();
        let mut found = self.ask(shards, share, block).await?;
        for shard in shards {
            let left = free - found.len();
            if left == 0 {
                break;
            }
            let given = found.iter().filter(|given| given.lease.shard == *shard);
            if given.count() < share {
                continue;
            }
            match self.ask(&[*shard], left, None).await {
                Ok(more) => found.extend(more),
                // What was given is ours: dropping it would leave it to its lease.
                Err(_) => break,
            }
        }
        Ok(found)
    }

    /// At most `count` entries of each shard.
    async fn ask(
        &self,
        shards: &[u16],
        count: usize,
        block: Option<Duration>,
    ) -> Result<Vec<Delivery>, Error> {
        let works: Vec<String> = shards
            .iter()
            .map(|shard| self.keys.work(self.agent, *shard))
            .collect();
        let cmd = self.command(&works, count, block);
        let reply = match self.link.query(&cmd).await {
            // A stream or its group is not there, or was removed while we waited.
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                for (shard, work) in shards.iter().zip(&works) {
                    self.make_group(*shard, work).await?;
                }
                self.link.query(&cmd).await?
            }
            reply => reply?,
        };
        if reply == Value::Nil {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (stream, entries) in read::<Vec<(String, Vec<Entry>)>>(reply)? {
            let at = works.iter().position(|work| *work == stream);
            let shard = at.map(|at| shards[at]);
            let shard = shard.ok_or_else(|| Error::data("a stream that was not asked for"))?;
            found.extend(entries.into_iter().map(|entry| self.delivery(shard, entry)));
        }
        Ok(found)
    }

    fn delivery(&self, shard: u16, (entry, fields): Entry) -> Delivery {
        Delivery {
            agent: self.agent,
            consumer: self.consumer.clone(),
            lease: LeaseId { shard, entry },
            deliveries: 1,
            taken_from: None,
            work: work(&fields, &self.keys, shard),
        }
    }

    fn command(&self, works: &[String], count: usize, block: Option<Duration>) -> Cmd {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.consumer);
        cmd.arg("COUNT").arg(count);
        if let Some(block) = block {
            // 0 would be for ever.
            cmd.arg("BLOCK").arg(millis(block).max(1));
        }
        cmd.arg("STREAMS").arg(works);
        for _ in works {
            cmd.arg(">");
        }
        cmd
    }

    /// At 0 and never at `$`: entries that came before the group are work too.
    async fn make_group(&self, shard: u16, work: &str) -> Result<(), Error> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE")
            .arg(work)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM");
        match self.link.query(&cmd).await {
            Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                tracing::info!(agent = %self.agent, shard, "made the consumer group");
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("agent", &self.agent)
            .field("consumer", &self.consumer)
            .finish_non_exhaustive()
    }
}
