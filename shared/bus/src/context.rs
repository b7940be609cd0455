//! Everything that a worker needs to know to answer an entry, in one round trip.

use redis::Value;
use story::{Context, LogEntry, Seq};

use crate::fields::known;
use crate::log::{readable, seq};
use crate::reply::{Entry, next};
use crate::work::{unpack, work};
use crate::{Bus, Delivery, Error, Story, Work};

/// What [`Bus::context`] read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    pub context: Context,
    /// The life of the log.
    pub epoch: String,
    /// What waits behind the entry in its lane, oldest first; it ends before one that cannot be read.
    pub parked: Vec<Work>,
    /// The last attempt at the response to this entry that had a draft; 0 = none. The response's id is
    /// `event.response(agent, part)`.
    pub attempt: u32,
    /// The number of the next one if it is the first: Redis's time in seconds, so that a replica that takes over without
    /// what it knew of another one does not give its number to this.
    pub first_attempt: u32,
    /// What an earlier delivery paid for ([`Bus::keep_paid`]): how its turn was begun, and its answers.
    pub paid: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    /// Redis's clock.
    pub now: jiff::Timestamp,
}

impl Story {
    /// What an agent is told of it, with the end of its log.
    #[must_use]
    pub fn context(self, history: Vec<LogEntry>) -> Context {
        Context {
            title: self.title,
            style: self.style,
            premise: self.premise,
            summary: self.summary,
            policies: self.policies,
            content: self.content,
            fence: self.fence,
            characters: self.characters,
            lore: self.lore,
            history,
        }
    }
}

impl Bus {
    /// Reads the entry's story with the last `history` events of its log, up to `until`, and the first `parked` of its lane. Events
    /// that were retracted, or that this version cannot read, are left out.
    ///
    /// # Errors
    /// [`Error::NoStory`] when it was deleted; [`Error::Data`] for a malformed entry; or Redis was not reached.
    pub async fn context(
        &self,
        delivery: &Delivery,
        (history, until): (usize, Option<Seq>),
        parked: usize,
    ) -> Result<Fetched, Error> {
        let agent = delivery.agent;
        let entry = delivery.work.as_ref();
        let entry = entry.map_err(|e| Error::data(e.to_string()))?;
        let (keys, id) = (&self.keys, &entry.story);
        let response = entry.response(agent);
        let mut pipe = redis::pipe();
        for key in [keys.ctx(id), keys.chars(id), keys.lore(id)] {
            pipe.cmd("HGETALL").arg(key);
        }
        // COUNT 0 would mean everything.
        let until = until.map_or_else(|| "+".to_owned(), |seq| format!("{}-0", seq.0));
        pipe.cmd("XREVRANGE").arg(keys.log(id)).arg(until).arg("-");
        pipe.arg("COUNT").arg(history.max(1));
        if let Some(last) = parked.checked_sub(1) {
            pipe.cmd("LRANGE").arg(keys.lane(agent, id).parked);
            pipe.arg(0).arg(last);
        }
        pipe.cmd("HGET")
            .arg(keys.drafts(id))
            .arg(format!("n:{response}"));
        pipe.cmd("LRANGE").arg(keys.paid(id, &response));
        pipe.arg(0).arg(-1);
        pipe.cmd("TIME");
        let mut replies = self.link.pipe(&pipe).await?.into_iter();

        let story = known(id, &mut replies)?;
        let mut log = events(&mut replies)?;
        log.truncate(history);
        log.reverse();
        let waiting: Vec<Vec<u8>> = match parked {
            0 => Vec::new(),
            _ => next(&mut replies)?,
        };
        let attempt: Option<u32> = next(&mut replies)?;
        let mut paid: Vec<Vec<u8>> = next(&mut replies)?;
        let paid = (!paid.is_empty()).then(|| (paid.remove(0), paid));
        let (seconds, micros): (i64, i32) = next(&mut replies)?;
        let epoch = story.epoch.clone();
        Ok(Fetched {
            epoch,
            context: story.context(log),
            parked: waiting
                .iter()
                .map_while(|packed| work(&unpack(packed)?, keys, delivery.lease.shard).ok())
                .collect(),
            paid,
            attempt: attempt.unwrap_or(0),
            first_attempt: u32::try_from(seconds).unwrap_or(1),
            now: jiff::Timestamp::new(seconds, micros * 1_000)
                .map_err(|e| Error::data(e.to_string()))?,
        })
    }
}

/// The log's end, newest first.
fn events(replies: &mut impl Iterator<Item = Value>) -> Result<Vec<LogEntry>, Error> {
    let entries: Vec<Entry> = next(replies)?;
    let readable = entries
        .into_iter()
        .filter_map(|(place, fields)| Some((place, readable(&fields)?)));
    readable
        .map(|(place, event)| {
            Ok(LogEntry {
                seq: seq(&place)?,
                event,
            })
        })
        .collect()
}
