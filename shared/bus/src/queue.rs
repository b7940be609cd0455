//! How much there is to do and how long it waits, for metrics: of any agent, since one that has no worker left cannot tell.

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use story::Agent;

use crate::reply::read;
use crate::script::QUEUE;
use crate::{Bus, Error};

/// What is in an agent's work streams, of all shards. What cannot be counted in one of them, or lies in one that nobody serves,
/// is not told at all: a part of it would be taken for the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Events that wait or are in flight. Parked ones do not count: no second worker could answer them sooner.
    pub backlog: Option<u64>,
    /// How long the oldest of them is there, by Redis's clock; zero when there is none.
    pub oldest: Option<Duration>,
    pub dead: Option<u64>,
    /// The agent's keys under which something else lies: what should be there cannot be counted.
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
        let served = self.coverage.shards().await;
        match self.queue_in(agent, &served).await {
            Err(error) if self.coverage.doubt(&error, &served).await => {
                self.queue_in(agent, &self.coverage.known()).await
            }
            queue => queue,
        }
    }

    async fn queue_in(&self, agent: Agent, served: &[u16]) -> Result<Queue, Error> {
        let is_whole = served.len() == self.keys.shards().len();
        let shards = served.iter().map(|&shard| {
            let (work, dead) = (self.keys.work(agent, shard), self.keys.dead(agent, shard));
            try_join(
                readable(work, async |key| self.waiting(key).await),
                readable(dead, async |key| self.length(key).await),
            )
        });
        let looked = try_join_all(shards).await?;
        let (waiting, dead): (Vec<_>, Vec<_>) = looked.into_iter().unzip();
        let mut unreadable = Vec::new();
        let waiting = all(waiting, &mut unreadable).filter(|_| is_whole);
        let dead = all(dead, &mut unreadable).filter(|_| is_whole);
        let waiting = waiting.map(|shards| shards.into_iter().unzip());
        let (backlog, oldest): (Option<Vec<u64>>, Option<Vec<_>>) = waiting.unzip();
        Ok(Queue {
            backlog: backlog.map(|counts| counts.iter().sum()),
            oldest: oldest.map(|ages| ages.into_iter().max().unwrap_or_default()),
            dead: dead.map(|counts| counts.iter().sum()),
            unreadable,
        })
    }

    /// How many entries a work stream has, and how long the oldest is there.
    async fn waiting(&self, work: &str) -> Result<(u64, Duration), Error> {
        let mut call = QUEUE.call();
        let (backlog, age) = read(call.key(work).run_alone(&self.counting).await?)?;
        Ok((backlog, Duration::from_millis(age)))
    }

    async fn length(&self, stream: &str) -> Result<u64, Error> {
        let mut length = redis::cmd("XLEN");
        read(self.counting.query(length.arg(stream)).await?)
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

/// What was found in all shards, if it can be read in each.
fn all<T>(shards: Vec<Result<T, String>>, unreadable: &mut Vec<String>) -> Option<Vec<T>> {
    let known = unreadable.len();
    let found = shards.into_iter();
    let found = found.filter_map(|shard| shard.map_err(|key| unreadable.push(key)).ok());
    let found: Vec<_> = found.collect();
    (unreadable.len() == known).then_some(found)
}
