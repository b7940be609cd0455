//! Who reads an agent's work: the consumers of its groups, and whether any of them is alive.

use std::collections::HashMap;
use std::time::Duration;

use redis::Value;
use story::{Agent, StoryId};

use crate::keys::GROUP;
use crate::reply::read;
use crate::{Bus, Error};

/// A worker that was not heard of for so long is taken for gone: readers ask every 2 s, leases are renewed sooner than that.
const SILENT: Duration = Duration::from_secs(10);

/// One consumer of one group.
pub(crate) struct Consumer {
    pub(crate) pending: u64,
    /// How long it was not heard of.
    pub(crate) idle: Duration,
}

impl Bus {
    /// Whether any worker of that agent was heard of in the last seconds.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn is_attended(&self, agent: Agent, story: &StoryId) -> Result<bool, Error> {
        let consumers = self.consumers_of(agent, self.keys.shard(story)).await?;
        Ok(consumers.iter().any(|consumer| consumer.idle < SILENT))
    }

    /// How many stories wait for an agent of whom no worker was heard of in the last seconds, of each such agent. Streams
    /// that are none are left out.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn unattended(&self) -> Result<Vec<(Agent, u64)>, Error> {
        let mut unattended = Vec::new();
        for agent in Agent::ALL {
            let mut entries = 0;
            for shard in self.keys.shards() {
                match self.unattended_in(agent, shard).await {
                    Err(error) if error.is_of_the_data() => {}
                    more => entries += more?,
                }
            }
            if entries > 0 {
                unattended.push((agent, entries));
            }
        }
        Ok(unattended)
    }

    async fn unattended_in(&self, agent: Agent, shard: u16) -> Result<u64, Error> {
        let consumers = self.consumers_of(agent, shard).await?;
        if consumers.iter().any(|consumer| consumer.idle < SILENT) {
            return Ok(0);
        }
        let mut length = redis::cmd("XLEN");
        length.arg(self.keys.work(agent, shard));
        read(self.link.query(&length).await?)
    }

    /// None where neither the stream nor its group is there yet.
    pub(crate) async fn consumers_of(
        &self,
        agent: Agent,
        shard: u16,
    ) -> Result<Vec<Consumer>, Error> {
        let mut cmd = redis::cmd("XINFO");
        cmd.arg("CONSUMERS")
            .arg(self.keys.work(agent, shard))
            .arg(GROUP);
        let rows: Vec<HashMap<String, Value>> = match self.link.query(&cmd).await {
            Err(Error::Refused(error)) if is_absent(&error) => return Ok(Vec::new()),
            reply => read(reply?)?,
        };
        let number = |row: &HashMap<String, Value>, name: &str| match row.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let consumer = |row| Consumer {
            pending: number(row, "pending"),
            idle: Duration::from_millis(number(row, "idle")),
        };
        Ok(rows.iter().map(consumer).collect())
    }
}

/// Neither the stream nor its group is there: nobody has read from it.
fn is_absent(error: &redis::RedisError) -> bool {
    error.code() == Some("NOGROUP") || error.to_string().contains("no such key")
}
