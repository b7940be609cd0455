//! The commands of a worker without what makes them safe, and a look at how far a fleet is: what `storyfleet bench`
//! measures against, and with. No worker uses them: a crash between two of them loses an event or doubles it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::streams::StreamInfoGroupsReply;
use story::{Agent, Event, StoryId};

use crate::keys::GROUP;
use crate::lease::millis;
use crate::link::Link;
use crate::log::readable;
use crate::reply::{Entry, read};
use crate::{Bus, Delivery, Error};

/// How long one look at the logs waits for something new.
const BLOCK: Duration = Duration::from_secs(1);

/// Bare commands for one agent of a fleet. What it gives and acknowledges is of one shard. Entries are read by [`crate::Reader`].
#[derive(Debug, Clone)]
pub struct Bare {
    bus: Bus,
    agent: Agent,
}

/// How far the group of a work stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Delivered and not acknowledged.
    pub in_flight: usize,
    /// Delivered and acknowledged.
    pub ended: usize,
}

/// Follows the logs of many stories by one blocking read.
pub struct Tail {
    link: Link,
    /// Each log's key, and the last entry that was seen of it.
    seen: Vec<(String, String)>,
}

impl Bus {
    #[must_use]
    pub fn bare(&self, agent: Agent) -> Bare {
        let bus = self.clone();
        Bare { bus, agent }
    }

    /// From the beginning of each log.
    #[must_use]
    pub fn tail(&self, stories: &[StoryId]) -> Tail {
        let keys = stories.iter().map(|story| self.keys.log(story));
        Tail {
            link: Link::new(
                self.topology.clone(),
                &self.settings,
                BLOCK + self.settings.timeout,
            ),
            seen: keys.map(|key| (key, "0-0".to_owned())).collect(),
        }
    }
}

impl Bare {
    /// Adds the event to the work stream, in no lane and whether or not it was added before.
    ///
    /// # Errors
    /// When Redis was not reached; so is every error here.
    pub async fn give(&self, event: &Event) -> Result<(), Error> {
        let mut cmd = redis::cmd("XADD");
        cmd.arg(self.work()).arg("*");
        cmd.arg("story").arg(event.story.as_str());
        cmd.arg("id").arg(event.id.as_str()).arg("part").arg(0);
        cmd.arg("e").arg(event.encode());
        self.bus.link.query(&cmd).await.map(|_| ())
    }

    /// The fields of the story's context.
    ///
    /// # Errors
    /// As above.
    pub async fn context(&self, story: &StoryId) -> Result<HashMap<String, String>, Error> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.bus.keys.ctx(story));
        read(self.bus.link.query(&cmd).await?)
    }

    /// Adds the answer to the story's log, then acknowledges, in one round trip but not as one.
    ///
    /// # Errors
    /// As above; the answer may be in the log all the same.
    pub async fn answer(&self, delivery: &Delivery, answer: &Event) -> Result<(), Error> {
        let mut pipe = redis::pipe();
        pipe.cmd("XADD").arg(self.bus.keys.log(&answer.story));
        pipe.arg("*").arg("e").arg(answer.encode());
        pipe.cmd("XACK").arg(self.work()).arg(GROUP);
        pipe.arg(&delivery.lease.entry);
        self.bus.link.pipe(&pipe).await.map(|_| ())
    }

    /// Of the agent's work streams; `None` before anyone has asked for work of each.
    ///
    /// # Errors
    /// As above.
    pub async fn progress(&self) -> Result<Option<Progress>, Error> {
        let asks = self.bus.keys.shards().map(|shard| {
            let mut cmd = redis::cmd("XINFO");
            cmd.arg("GROUPS").arg(self.bus.keys.work(self.agent, shard));
            cmd
        });
        // In one round trip: it is asked often, and one for each shard would be measured too.
        let replies = match self.bus.link.each(&asks.collect::<Vec<_>>()).await {
            // A stream is not there yet.
            Err(Error::Refused(_)) => return Ok(None),
            replies => replies?,
        };
        let mut progress = None;
        for reply in replies {
            let groups = read::<StreamInfoGroupsReply>(reply)?.groups.into_iter();
            for group in groups.filter(|group| group.name == GROUP) {
                let all: &mut Progress = progress.get_or_insert_default();
                let read = group.entries_read.unwrap_or(0);
                all.in_flight += group.pending;
                all.ended += read.saturating_sub(group.pending);
            }
        }
        Ok(progress)
    }

    /// Bytes that Redis uses, of everything.
    ///
    /// # Errors
    /// As above.
    pub async fn memory(&self) -> Result<u64, Error> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("memory");
        let text: String = read(self.bus.link.query(&cmd).await?)?;
        let used = text
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        used.and_then(|used| used.trim().parse().ok())
            .ok_or_else(|| Error::data("INFO has no used_memory"))
    }

    /// Bytes of each of a story's keys, by what it is; of those that are there.
    ///
    /// # Errors
    /// As above.
    pub async fn sizes(&self, story: &StoryId) -> Result<BTreeMap<&'static str, u64>, Error> {
        let keys = &self.bus.keys;
        let keys = [
            ("context", keys.ctx(story)),
            ("characters", keys.chars(story)),
            ("log", keys.log(story)),
            ("recordings", keys.recordings(story)),
            ("ids", keys.seen(story)),
            ("drafts", keys.drafts(story)),
        ];
        let mut pipe = redis::pipe();
        for (_, key) in &keys {
            let usage = pipe.cmd("MEMORY").arg("USAGE").arg(key);
            usage.arg("SAMPLES").arg(0);
        }
        let replies = self.bus.link.pipe(&pipe).await?;
        let mut sizes = BTreeMap::new();
        for ((name, _), reply) in keys.iter().zip(replies) {
            sizes.extend(read::<Option<u64>>(reply)?.map(|bytes| (*name, bytes)));
        }
        Ok(sizes)
    }

    /// Everything in the logs of these stories.
    ///
    /// # Errors
    /// As above.
    pub async fn logged(&self, stories: &[StoryId]) -> Result<Vec<Event>, Error> {
        let mut pipe = redis::pipe();
        for story in stories {
            pipe.cmd("XRANGE").arg(self.bus.keys.log(story));
            pipe.arg("-").arg("+");
        }
        let mut events = Vec::new();
        for log in self.bus.link.pipe(&pipe).await? {
            let entries: Vec<Entry> = read(log)?;
            events.extend(entries.iter().filter_map(|(_, fields)| readable(fields)));
        }
        Ok(events)
    }

    fn work(&self) -> String {
        self.bus.keys.work(self.agent, 0)
    }
}

impl Tail {
    /// The next events of any of the logs; empty when none came within a second.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("BLOCK").arg(millis(BLOCK)).arg("STREAMS");
        for (key, _) in &self.seen {
            cmd.arg(key);
        }
        for (_, entry) in &self.seen {
            cmd.arg(entry);
        }
        let logs: Option<Vec<(String, Vec<Entry>)>> = read(self.link.query(&cmd).await?)?;
        let mut events = Vec::new();
        for (key, entries) in logs.unwrap_or_default() {
            if let Some((last, _)) = entries.last()
                && let Some(seen) = self.seen.iter_mut().find(|(log, _)| *log == key)
            {
                seen.1.clone_from(last);
            }
            events.extend(entries.iter().filter_map(|(_, fields)| readable(fields)));
        }
        Ok(events)
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("logs", &self.seen.len())
            .finish_non_exhaustive()
    }
}
