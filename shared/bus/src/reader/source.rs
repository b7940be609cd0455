//! What a reader asks of work streams: their new entries, which it makes the group for where there is none.

use std::time::Duration;

use redis::{Cmd, Value};
use story::Agent;

use crate::keys::{GROUP, Keys};
use crate::lease::millis;
use crate::link::Link;
use crate::reply::{Entry, read};
use crate::work::work;
use crate::{Delivery, Error, LeaseId};

/// What it asks, and for whom.
#[derive(Clone)]
pub(super) struct Source {
    pub keys: Keys,
    pub link: Link,
    pub agent: Agent,
    pub consumer: String,
}

impl Source {
    /// At most `free` entries, of no more shards than that: all that there are.
    pub(super) async fn read(
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
    pub(super) async fn ask(
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
