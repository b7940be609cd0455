//! Reads new entries of an agent's work streams, on a connection of its own: a blocking read stops all that is behind
//! it. It never reads ahead: an entry is delivered when there is a free slot for it, and its lease starts then.

mod source;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use story::Agent;
use tokio::time::{Instant, timeout};

use crate::coverage::Coverage;
use crate::reader::source::Source;
use crate::{Bus, Delivery, Error};

/// How long one call waits for an entry.
const BLOCK: Duration = Duration::from_secs(2);

/// How long it waits for a shard that does not answer while others did.
const TURN: Duration = Duration::from_millis(50);

/// Between two looks at shards that cannot be waited on together: twice as long after each that finds nothing, since a fleet
/// with nothing to do would else ask hundreds of times a second.
const PAUSES: (Duration, Duration) = (TURN, Duration::from_millis(400));

/// How long a shard that failed is missed: one that still does is asked again before.
const MISSED: Duration = Duration::from_secs(5);

/// One consumer of one agent's work.
pub struct Reader {
    source: Source,
    coverage: Coverage,
    /// The shard to look at first, so that a busy one does not starve the others.
    first: usize,
    /// How many streams one command may name: those of a cluster are in different slots.
    together: usize,
    /// The longest that one call waits for an entry.
    block: Duration,
    /// Until the next look, when this one finds nothing.
    pause: Duration,
    /// Shards that were asked and have not answered: what they give is not lost when a call ends before.
    under_way: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// How many entries may come of each of them.
    asked: BTreeMap<u16, usize>,
    /// Shards of which the last answer was an error, and when it was.
    lost: BTreeMap<u16, Instant>,
}

/// Of some shards, that were asked for so many entries each.
struct Answer {
    shards: Vec<u16>,
    count: usize,
    given: Result<Vec<Delivery>, Error>,
}

impl Bus {
    /// `consumer` names this life of this process: no two of them are ever the same.
    #[must_use]
    pub fn reader(&self, agent: Agent, consumer: &str) -> Reader {
        let (together, block) = match self.topology.is_cluster() {
            // A master that hangs is found out as soon as on other connections.
            true if self.settings.shards > 1 => (1, PAUSES.1),
            true => (1, BLOCK),
            false => (usize::MAX, BLOCK),
        };
        let answer = block + Duration::from_secs(1);
        Reader {
            source: Source {
                keys: self.keys.clone(),
                // What the others have found dead it does not wait for, and the other way round.
                link: self.link.beside(answer.max(self.settings.timeout)),
                agent,
                consumer: consumer.to_owned(),
            },
            coverage: self.coverage.clone(),
            first: 0,
            together,
            block,
            pause: PAUSES.0,
            under_way: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            lost: BTreeMap::new(),
        }
    }
}

impl Reader {
    /// Up to `free` new entries, oldest first; empty when none came within 2 s, or within less where shards cannot be waited
    /// on together. Makes the group where it is missing.
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
        let wait = wait.min(self.block);
        let asked = self.coverage.known();
        match self.around(free, wait).await {
            Err(error) if self.coverage.doubt(&error, &asked).await => {
                self.around(free, wait).await
            }
            read => read,
        }
    }

    /// How many entries shards may still give that have not answered: as many places are to be left free.
    #[must_use]
    pub fn expects(&self) -> usize {
        self.asked.values().sum()
    }

    /// Whether a shard that somebody serves has failed and not answered since. Who has no room to ask it again misses it for
    /// 5 s.
    #[must_use]
    pub fn misses_some(&self) -> bool {
        let is_missed = |(shard, since): (&u16, &Instant)| {
            since.elapsed() < MISSED && !self.coverage.leaves_out(*shard)
        };
        self.lost.iter().any(is_missed)
    }

    /// What those still give: for who reads no more.
    pub async fn rest(&mut self) -> Vec<Delivery> {
        let mut found = Vec::new();
        while let Some(answer) = self.under_way.next().await {
            // Who did not answer gave nothing that we know of.
            found.extend(answer.given.into_iter().flatten());
        }
        self.asked.clear();
        found
    }

    async fn around(&mut self, free: usize, wait: Duration) -> Result<Vec<Delivery>, Error> {
        let all = self.coverage.shards().await;
        // COUNT is for each stream, and no more may come than there are free slots.
        if free.min(self.together) >= all.len() && self.asked.is_empty() {
            let read = self.source.read(&all, free, Some(wait)).await;
            if read.is_ok() {
                self.lost.clear();
            }
            return read;
        }
        self.first = (self.first + 1) % all.len();
        let circle = [&all[self.first..], &all[..self.first]].concat();
        let mut found = self.look(circle.iter().copied().collect(), free).await?;
        if found.is_empty() {
            found = self.wait(&circle, free, wait).await?;
        }
        self.pause = match found.is_empty() {
            true => (2 * self.pause).min(PAUSES.1),
            false => PAUSES.0,
        };
        Ok(found)
    }

    /// Looks at each of the shards once, again where there may be more, and waits for none.
    async fn look(
        &mut self,
        mut shards: VecDeque<u16>,
        free: usize,
    ) -> Result<Vec<Delivery>, Error> {
        // Who has not answered yet is waited for no longer.
        let late: Vec<u16> = self.asked.keys().copied().collect();
        shards.retain(|shard| !late.contains(shard));
        let (mut found, mut failed) = (Vec::new(), None);
        loop {
            let mut left = free.saturating_sub(found.len() + self.expects());
            while left > 0 && !shards.is_empty() {
                let count = (left / shards.len()).max(1);
                let some = left.min(self.together).min(shards.len());
                self.ask(shards.drain(..some).collect(), count, None);
                left -= some * count;
            }
            let patience = match self.asked.keys().all(|shard| late.contains(shard)) {
                true => Duration::ZERO,
                false => TURN,
            };
            let Some(answer) = self.answer(patience).await else {
                break;
            };
            match answer.given {
                Ok(given) => {
                    let is_full = |shard: &u16| {
                        let given = given.iter().filter(|given| given.lease.shard == *shard);
                        given.count() == answer.count
                    };
                    shards.extend(answer.shards.into_iter().filter(is_full));
                    found.extend(given);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if found.is_empty() => Err(error),
            // What the others gave is ours: dropping it would leave it to its lease.
            _ => Ok(found),
        }
    }

    /// Waits until the next look, or until something comes.
    async fn wait(
        &mut self,
        circle: &[u16],
        free: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, Error> {
        let pause = wait.min(self.pause);
        let left = free.saturating_sub(self.expects());
        let idle = circle
            .iter()
            .filter(|shard| !self.asked.contains_key(shard));
        let some: Vec<u16> = idle.copied().take(left.min(self.together)).collect();
        if !some.is_empty() {
            let count = left / some.len();
            self.ask(some, count, Some(pause));
        }
        let until = Instant::now() + pause + TURN;
        // One that was late before ends no wait by giving nothing.
        while !self.asked.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            let Some(answer) = self.answer(left).await else {
                break;
            };
            let given = answer.given?;
            if !given.is_empty() {
                return Ok(given);
            }
        }
        Ok(Vec::new())
    }

    fn ask(&mut self, shards: Vec<u16>, count: usize, block: Option<Duration>) {
        self.asked
            .extend(shards.iter().map(|shard| (*shard, count)));
        let source = self.source.clone();
        let asked = async move {
            let given = source.ask(&shards, count, block).await;
            Answer {
                shards,
                count,
                given,
            }
        };
        self.under_way.push(asked.boxed());
    }

    /// The next answer, if one comes in time.
    async fn answer(&mut self, patience: Duration) -> Option<Answer> {
        let mut answer = timeout(patience, self.under_way.next()).await.ok()??;
        // They were asked before it was known that nobody serves one of them; the others are asked again.
        let is_left_out = |shard: &u16| self.coverage.leaves_out(*shard);
        if answer.given.as_ref().is_err_and(Error::is_away) && answer.shards.iter().any(is_left_out)
        {
            answer.given = Ok(Vec::new());
        }
        for shard in &answer.shards {
            self.asked.remove(shard);
            match answer.given {
                Ok(_) => self.lost.remove(shard),
                Err(_) => self.lost.insert(*shard, Instant::now()),
            };
        }
        Some(answer)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("agent", &self.source.agent)
            .field("consumer", &self.source.consumer)
            .finish_non_exhaustive()
    }
}
