//! How much there is to do and how long it waits, for metrics: of any agent, since one that has no worker left cannot tell.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use story::Agent;

use crate::reply::read;
use crate::script::QUEUE;
use crate::{Bus, Error};

/// What is in an agent's work streams, of all shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Events that wait or are in flight. Parked ones do not count: no second worker could answer them sooner.
    pub backlog: u64,
    /// How long the oldest of them is there, by Redis's clock; zero when there is none.
    pub oldest: Duration,
    pub dead: u64,
    /// The agent's keys under which something else lies: what should be there is not counted.
    pub unreadable: Vec<String>,
}

impl Bus {
    /// The queue of each of `agents`, in their order.
    ///
    /// # Errors
    /// When Redis was not reached or refuses. What lies wrong under one key is no error: one agent's is not another's.
    pub async fn queues(&self, agents: &[Agent]) -> Result<Vec<(Agent, Queue)>, Error> {
        let queues = agents
            .iter()
            .map(async |&agent| Ok((agent, self.queue_of(agent).await?)));
        try_join_all(queues).await
    }

    async fn queue_of(&self, agent: Agent) -> Result<Queue, Error> {
        let shards = self.keys.shards().map(|shard| {
            let (work, dead) = (self.keys.work(agent, shard), self.keys.dead(agent, shard));
            try_join(
                readable(work, async |key| self.waiting(key).await),
                readable(dead, async |key| self.length(key).await),
            )
        });
        let mut queue = Queue::default();
        for (waiting, dead) in try_join_all(shards).await? {
            match waiting {
                Ok((backlog, oldest)) => {
                    queue.backlog += backlog;
                    queue.oldest = queue.oldest.max(oldest);
                }
                Err(key) => queue.unreadable.push(key),
            }
            match dead {
                Ok(dead) => queue.dead += dead,
                Err(key) => queue.unreadable.push(key),
            }
        }
        Ok(queue)
    }

    /// How many entries a work stream has, and how long the oldest is there.
    async fn waiting(&self, work: &str) -> Result<(u64, Duration), Error> {
        let mut call = QUEUE.call();
        let (backlog, age) = read(call.key(work).read(&self.link).await?)?;
        Ok((backlog, Duration::from_millis(age)))
    }

    async fn length(&self, stream: &str) -> Result<u64, Error> {
        let mut length = redis::cmd("XLEN");
        read(self.link.query(length.arg(stream)).await?)
    }
}

/// What `look` finds under the key, or the key where it is something else.
async fn readable<T>(
    key: String,
    look: impl AsyncFnOnce(&str) -> Result<T, Error>,
) -> Result<Result<T, String>, Error> {
    match look(&key).await {
        Err(error) if error.is_of_the_data() => Ok(Err(key)),
        found => found.map(Ok),
    }
}
