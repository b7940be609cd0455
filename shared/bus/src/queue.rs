//! How much there is to do and how long it waits, for metrics: of all agents, since one that has no worker left cannot tell.

use std::time::Duration;

use story::Agent;

use crate::reply::read;
use crate::script::{Call, QUEUE};
use crate::{Bus, Error};

/// What is in an agent's work streams, of all shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queue {
    /// Events that wait or are in flight. Parked ones do not count: no second worker could answer them sooner.
    pub backlog: u64,
    /// How long the oldest of them is there, by Redis's clock; zero when there is none.
    pub oldest: Duration,
    pub dead: u64,
}

impl Bus {
    /// The queue of each agent, in the order of [`Agent::ALL`], in one round trip.
    ///
    /// # Errors
    /// When Redis was not reached or refuses.
    pub async fn queues(&self) -> Result<Vec<(Agent, Queue)>, Error> {
        let places: Vec<_> = Agent::ALL
            .into_iter()
            .flat_map(|agent| self.keys.shards().map(move |shard| (agent, shard)))
            .collect();
        let calls: Vec<_> = places
            .iter()
            .map(|&(agent, shard)| {
                let mut call = QUEUE.call();
                call.key(self.keys.work(agent, shard))
                    .key(self.keys.dead(agent, shard));
                call
            })
            .collect();
        let replies = Call::run_each(&calls, &self.link).await?;
        let mut queues = Agent::ALL.map(|agent| (agent, Queue::default()));
        for ((agent, _), reply) in places.into_iter().zip(replies) {
            let (backlog, age, dead) = read::<(u64, u64, u64)>(reply)?;
            let of_agent = queues.iter_mut().filter(|(other, _)| *other == agent);
            for (_, queue) in of_agent {
                queue.backlog += backlog;
                queue.oldest = queue.oldest.max(Duration::from_millis(age));
                queue.dead += dead;
            }
        }
        Ok(queues.into())
    }
}
