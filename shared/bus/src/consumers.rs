//! Who reads an agent's work: the consumers of its groups, and whether any of them is alive.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use redis::Value;
use story::{Agent, StoryId};

use crate::keys::GROUP;
use crate::reply::read;
use crate::{Bus, Error};

/// A worker that was not heard of for so long is taken for gone: readers ask every 2 s, leases are renewed sooner than that.
pub(crate) const SILENT: Duration = Duration::from_secs(10);

/// One consumer of one group.
pub(crate) struct Consumer {
    pub(crate) name: String,
    pub(crate) pending: u64,
    /// How long it was not heard of.
    pub(crate) idle: Duration,
    /// How long it was given nothing; Redis before 7.2 does not tell.
    pub(crate) quiet: Option<Duration>,
}

impl Bus {
    /// Whether stories wait for an agent of whom no worker was heard of in the last seconds, where this story's do. One who has
    /// nothing to do is never missed: a Redis before 7.2 hears of none, and one that has just begun of all.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn is_unattended(&self, agent: Agent, story: &StoryId) -> Result<bool, Error> {
        let waiting = self.unattended_in(agent, self.keys.shard(story)).await?;
        Ok(waiting > 0)
    }

    /// How many stories wait for an agent of whom no worker was heard of in the last seconds, of each such agent. Streams
    /// that are none are left out, and of a cluster what nobody serves; so is everybody while Redis has just begun and cannot
    /// tell.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn unattended(&self) -> Result<Vec<(Agent, u64)>, Error> {
        let mut unattended = Vec::new();
        let shards = self.coverage.shards().await;
        for agent in Agent::ALL {
            let looks = shards.iter().map(|shard| self.unattended_in(agent, *shard));
            let (mut entries, mut away) = (0, Vec::new());
            for looked in join_all(looks).await {
                match looked {
                    Ok(more) => entries += more,
                    Err(error) if error.is_of_the_data() => {}
                    Err(error) if error.is_away() && self.topology.is_cluster() => {
                        away.push(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            let none = away.len() == shards.len();
            if let Some(error) = away.pop() {
                self.coverage.look().await;
                if none {
                    return Err(error);
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
        Ok(rows.iter().map(consumer).collect())
    }
}

fn consumer(row: &HashMap<String, Value>) -> Consumer {
    let number = |name: &str| match row.get(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    let name = match row.get("name") {
        Some(Value::BulkString(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => String::new(),
    };
    Consumer {
        name,
        pending: number("pending").unwrap_or(0),
        idle: Duration::from_millis(number("idle").unwrap_or(0)),
        quiet: number("inactive").map(Duration::from_millis),
    }
}

/// Neither the stream nor its group is there: nobody has read from it.
fn is_absent(error: &redis::RedisError) -> bool {
    error.code() == Some("NOGROUP") || error.to_string().contains("no such key")
}
