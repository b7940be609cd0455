//! Dead letters: the events that were given up on, whole, each with its reason.

use std::collections::BTreeMap;

use serde::Serialize;
use story::{Agent, EventId, StoryId};

use crate::reply::{Entry, read, verdict};
use crate::script::{Script, lane_script};
use crate::{Bus, Error, Replicated};

pub(crate) static REDRIVE: Script = Script::new(lane_script!("redrive"));

/// Dead letters that one read takes.
const PAGE: usize = 500;

/// An event that no worker could answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// `<shard>/<entry>`
    pub id: String,
    /// Absent when the entry names none that can be read.
    pub story: Option<StoryId>,
    pub event: Option<EventId>,
    pub reason: String,
    pub class: String,
    pub tries: u32,
    /// All that is stored; bytes that are not text are replaced.
    pub fields: BTreeMap<String, String>,
}

impl Bus {
    /// The dead letters of an agent, oldest first in each shard.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn dead(&self, agent: Agent) -> Result<Vec<DeadLetter>, Error> {
        let mut letters = Vec::new();
        for shard in self.keys.shards() {
            let mut start = "-".to_owned();
            loop {
                let mut cmd = redis::cmd("XRANGE");
                cmd.arg(self.keys.dead(agent, shard)).arg(&start).arg("+");
                cmd.arg("COUNT").arg(PAGE);
                let page: Vec<Entry> = read(self.link.query(&cmd).await?)?;
                let Some((last, _)) = page.last() else {
                    break;
                };
                start = format!("({last}");
                letters.extend(page.into_iter().map(|entry| letter(shard, entry)));
            }
        }
        Ok(letters)
    }

    /// How many dead letters an agent has.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn dead_count(&self, agent: Agent) -> Result<u64, Error> {
        let keys = self.keys.shards().map(|shard| self.keys.dead(agent, shard));
        self.lengths(keys).await
    }

    /// One dead letter; `None` when it is not there.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn dead_letter(&self, agent: Agent, id: &str) -> Result<Option<DeadLetter>, Error> {
        let Some((shard, entry)) = self.place(id) else {
            return Ok(None);
        };
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.keys.dead(agent, shard)).arg(entry).arg(entry);
        let found: Vec<Entry> = read(self.link.query(&cmd).await?)?;
        Ok(found.into_iter().next().map(|found| letter(shard, found)))
    }

    /// Puts a dead letter into its lane again; false when it is not there, so that a second call does nothing.
    ///
    /// # Errors
    /// [`Error::Data`] when the letter cannot have a lane; or when Redis is not reached or refuses.
    pub async fn redrive(&self, agent: Agent, id: &str) -> Result<bool, Error> {
        let done = self.redrive_replicated(agent, id).await?;
        Ok(done.is_some())
    }

    /// The same; tells whether replicas have it, and `None` when it is not there.
    ///
    /// # Errors
    /// As [`Bus::redrive`].
    pub async fn redrive_replicated(
        &self,
        agent: Agent,
        id: &str,
    ) -> Result<Option<Replicated>, Error> {
        let (Some((shard, entry)), Some(letter)) =
            (self.place(id), self.dead_letter(agent, id).await?)
        else {
            return Ok(None);
        };
        let story = letter.story.filter(|story| self.keys.shard(story) == shard);
        let story = story.ok_or_else(|| {
            Error::data("the dead letter names no story of its shard: it can only be purged")
        })?;
        let field = |name| letter.fields.get(name).map_or("", String::as_str);
        let ends = match story::Event::decode(field("e").as_bytes()) {
            Ok(event) => story::ended_with(&event, field("held") == "1"),
            Err(_) => letter.event.into_iter().collect(),
        };
        let mut call = REDRIVE.call();
        call.key(self.keys.dead(agent, shard))
            .keys(self.keys.lane(agent, &story).into_keys())
            .key(self.keys.redriven(&story));
        call.arg(entry);
        for id in &ends {
            call.arg(id.as_str());
        }
        // Gone when asked again after a lost reply: it was there before, so the first try did it.
        let heard = call.run_until_heard_replicated(&self.writing).await?;
        let (reply, replicated, unheard) = heard;
        let is_done = unheard || verdict(reply)?.0 == "OK";
        Ok(is_done.then_some(replicated))
    }

    /// Removes a dead letter for good; false when it is not there.
    ///
    /// # Errors
    /// When Redis is not reached or refuses.
    pub async fn purge(&self, agent: Agent, id: &str) -> Result<bool, Error> {
        let Some((shard, entry)) = self.place(id) else {
            return Ok(false);
        };
        let mut cmd = redis::cmd("XDEL");
        cmd.arg(self.keys.dead(agent, shard)).arg(entry);
        Ok(read::<u64>(self.link.query(&cmd).await?)? == 1)
    }

    /// What a dead letter's id names: `<shard>/<ms>-<n>`.
    fn place<'a>(&self, id: &'a str) -> Option<(u16, &'a str)> {
        let (shard, entry) = id.split_once('/')?;
        let shard = shard
            .parse()
            .ok()
            .filter(|shard| self.keys.shards().contains(shard))?;
        let (ms, n) = entry.split_once('-')?;
        let number = |text: &str| text.parse::<u64>().is_ok();
        (number(ms) && number(n)).then_some((shard, entry))
    }
}

fn letter(shard: u16, (entry, fields): Entry) -> DeadLetter {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: BTreeMap<_, _> = fields
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect();
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    DeadLetter {
        id: format!("{shard}/{entry}"),
        story: field("story").parse().ok(),
        event: field("id").parse().ok(),
        reason: field("reason").to_owned(),
        class: field("class").to_owned(),
        tries: field("tries").parse().unwrap_or(0),
        fields,
    }
}
