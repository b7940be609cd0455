//! Reads new entries of an agent's work streams, on a connection of its own: a blocking read stops all that is behind
//! it. It never reads ahead: an entry is delivered when there is a free slot for it, and its lease starts then.

use std::time::Duration;

use redis::{Cmd, Value};
use story::Agent;

use crate::keys::{GROUP, Keys};
use crate::lease::millis;
use crate::link::Link;
use crate::reply::{Entry, read};
use crate::work::work;
use crate::{Bus, Delivery, Error, LeaseId};

/// How long one call waits for an entry.
const BLOCK: Duration = Duration::from_secs(2);

/// One consumer of one agent's work.
pub struct Reader {
    keys: Keys,
    link: Link,
    agent: Agent,
    consumer: String,
    /// The shard to look at first, so that a busy one does not starve the others.
    first: u16,
}

impl Bus {
    /// `consumer` names this life of this process: no two of them are ever the same.
    #[must_use]
    pub fn reader(&self, agent: Agent, consumer: &str) -> Reader {
        let timeout = self.settings.timeout;
        let answer = BLOCK + Duration::from_secs(1);
        Reader {
            keys: self.keys.clone(),
            link: Link::new(self.topology.clone(), timeout, answer.max(timeout)),
            agent,
            consumer: consumer.to_owned(),
            first: 0,
        }
    }
}

impl Reader {
    /// Up to `free` new entries, oldest first; empty when none came within 2 s. Makes the group where it is missing.
    ///
    /// Not cancel-safe: what Redis delivered to a dropped call is claimed when its lease runs out.
    ///
    /// # Errors
    /// When Redis was not reached; the next call reconnects, with growing waits.
    pub async fn next(&mut self, free: usize) -> Result<Vec<Delivery>, Error> {
        if free == 0 {
            return Ok(Vec::new());
        }
        let shards = self.keys.shards().end;
        if shards == 1 {
            return self.read(0, free, Some(BLOCK)).await;
        }
        // Streams of different hash tags cannot be read by one command, and COUNT is per stream.
        let mut found = Vec::new();
        let first = self.first;
        self.first = (first + 1) % shards;
        for shard in (first..shards).chain(0..first) {
            if found.len() >= free {
                break;
            }
            match self.read(shard, free - found.len(), None).await {
                Ok(more) => found.extend(more),
                // What the other shards gave is ours: dropping it would leave it to its lease.
                Err(_) if !found.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() {
            let turn = (BLOCK / u32::from(shards)).max(Duration::from_millis(20));
            return self.read(self.first, free, Some(turn)).await;
        }
        Ok(found)
    }

    async fn read(
        &self,
        shard: u16,
        count: usize,
        block: Option<Duration>,
    ) -> Result<Vec<Delivery>, Error> {
        let cmd = self.command(shard, count, block);
        let reply = match self.link.query(&cmd).await {
            // The stream or the group is not there, or was removed while we waited.
            Err(error) if matches!(error.code(), Some("NOGROUP" | "UNBLOCKED")) => {
                self.make_group(shard).await?;
                self.link.query(&cmd).await?
            }
            reply => reply?,
        };
        if reply == Value::Nil {
            return Ok(Vec::new());
        }
        let streams: Vec<(String, Vec<Entry>)> = read(reply)?;
        let entries = streams.into_iter().flat_map(|(_, entries)| entries);
        Ok(entries
            .map(|(entry, fields)| Delivery {
                agent: self.agent,
                consumer: self.consumer.clone(),
                lease: LeaseId { shard, entry },
                deliveries: 1,
                work: work(&fields, &self.keys, shard),
            })
            .collect())
    }

    fn command(&self, shard: u16, count: usize, block: Option<Duration>) -> Cmd {
        let mut cmd = redis::cmd("XREADGROUP");
        cmd.arg("GROUP").arg(GROUP).arg(&self.consumer);
        cmd.arg("COUNT").arg(count);
        if let Some(block) = block {
            cmd.arg("BLOCK").arg(millis(block));
        }
        cmd.arg("STREAMS")
            .arg(self.keys.work(self.agent, shard))
            .arg(">");
        cmd
    }

    /// At 0 and never at `$`: entries that came before the group are work too.
    async fn make_group(&self, shard: u16) -> Result<(), Error> {
        let mut cmd = redis::cmd("XGROUP");
        cmd.arg("CREATE")
            .arg(self.keys.work(self.agent, shard))
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
