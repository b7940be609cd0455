//! What is in the lanes of a story at one moment, and the repair of what stands still there.

use std::collections::{HashMap, HashSet};

use story::{Agent, Event, EventId, Seq, StoryId};

use crate::reply::{Entry, read, verdict};
use crate::script::{Script, lane_script};
use crate::work::field;
use crate::{Bus, Error, Replicated};

static LANES: Script = Script::new(lane_script!("lanes"));
pub(crate) static REPAIR: Script = Script::new(lane_script!("repair"));
pub(crate) static READMIT: Script = Script::new(lane_script!("readmit"));

/// Entries in one read.
const PAGE: usize = 500;

/// What is in the lanes of one story at one moment.
#[derive(Default)]
pub(crate) struct Lanes {
    /// The events that wait or are in flight, and those that a held response among them answers.
    pub(crate) waiting: HashSet<EventId>,
    pub(crate) orphans: Vec<Orphan>,
}

/// A turn with its state, whether a draft is written, and id and JSON of each event.
type FoundLane = (String, String, bool, Vec<(String, Vec<u8>)>);

/// What is left in a lane whose turn is nobody's.
pub(crate) struct Orphan {
    pub(crate) agent: Agent,
    pub(crate) what: &'static str,
}

impl Bus {
    pub(crate) async fn lanes(&self, story: &StoryId) -> Result<Lanes, Error> {
        let mut call = LANES.call();
        call.key(self.keys.drafts(story));
        for agent in Agent::ALL {
            call.keys(self.keys.lane(agent, story).into_keys());
            call.arg(agent.as_str());
        }
        let found: Vec<FoundLane> = read(call.run_until_answered(&self.link).await?)?;
        let mut lanes = Lanes::default();
        for (agent, found) in Agent::ALL.into_iter().zip(found) {
            lanes.add(agent, &found);
        }
        Ok(lanes)
    }

    /// Those of the actions that a work stream has though no lane says so, since something took its turn away, and whose
    /// work stream it is. The moderator's comes last: responses go on to it.
    pub(crate) async fn in_work(
        &self,
        story: &StoryId,
        ids: &HashSet<EventId>,
    ) -> Result<HashMap<EventId, Agent>, Error> {
        let mut found = HashMap::new();
        for agent in Agent::ALL.into_iter().rev() {
            for (_, event) in self.of_story(agent, story).await? {
                let answers = event.cause.iter().chain([&event.id]);
                let known = answers.filter(|id| ids.contains(id)).cloned();
                found.extend(known.map(|id| (id, agent)));
            }
        }
        Ok(found)
    }

    /// The entries of a story in a work stream, oldest first.
    async fn of_story(&self, agent: Agent, story: &StoryId) -> Result<Vec<(String, Event)>, Error> {
        let (work, mut from) = (self.keys.lane(agent, story).work, "-".to_owned());
        let mut found = Vec::new();
        loop {
            let mut page = redis::cmd("XRANGE");
            page.arg(&work).arg(&from).arg("+").arg("COUNT").arg(PAGE);
            let entries: Vec<Entry> = read(self.link.query(&page).await?)?;
            let Some((last, _)) = entries.last() else {
                return Ok(found);
            };
            from = format!("({last}");
            for (entry, fields) in entries {
                let is_here = field(&fields, "story") == Some(story.as_str().as_bytes());
                let event = field(&fields, "e").filter(|_| is_here);
                let event = event.and_then(|json| Event::decode(json).ok());
                found.extend(event.map(|event| (entry, event)));
            }
        }
    }

    /// Sets a lane going whose turn is nobody's. Where the turn is gone and its entry is not, the entry has it again, or
    /// waits behind the one that has it by now. False when an entry without the turn is being worked on: that one ends by itself.
    pub(crate) async fn repair(&self, story: &StoryId, agent: Agent) -> Result<bool, Error> {
        let entries = self.of_story(agent, story).await?;
        let mut call = REPAIR.call();
        call.keys(self.keys.lane(agent, story).into_keys())
            .key(self.keys.drafts(story));
        call.arg(agent.as_str());
        for (entry, _) in &entries {
            call.arg(entry.as_str());
        }
        let (word, _) = verdict(call.run_until_answered(&self.writing).await?)?;
        Ok(word == "OK")
    }

    /// Puts an action of the log into its lane again that had no answer, and was in no lane, when the log ended at `end`.
    /// `None` when the log has gone on, or when no agent answers such an action.
    pub(crate) async fn readmit(
        &self,
        event: &Event,
        end: Seq,
    ) -> Result<Option<Replicated>, Error> {
        let (keys, story) = (&self.keys, &event.story);
        let Some(step) = story::passed(event).into_iter().next() else {
            return Ok(None);
        };
        let mut call = READMIT.call();
        call.key(keys.ctx(story))
            .keys(keys.lane(step.agent, story).into_keys())
            .key(keys.redriven(story));
        call.arg(story.as_str())
            .arg(event.id.as_str())
            .number(step.part)
            .arg(event.encode())
            .number(end.0);
        let (reply, replicated) = call.run_until_replicated(&self.writing).await?;
        let (word, _) = verdict(reply)?;
        Ok((word == "OK").then_some(replicated))
    }
}

impl Lanes {
    fn add(&mut self, agent: Agent, found: &FoundLane) {
        let (turn, state, draft, waiting) = found;
        let what = match state.as_str() {
            "running" => None,
            "stranded" => Some("the turn is an entry that nobody has and nobody will be given"),
            _ if !turn.is_empty() => Some("the turn is an entry that is not there"),
            _ if !waiting.is_empty() => Some("events wait behind nothing"),
            _ if *draft => Some("a draft is left that nobody writes"),
            _ => None,
        };
        self.orphans.extend(what.map(|what| Orphan { agent, what }));
        for (id, held) in waiting {
            self.waiting.extend(id.parse());
            if let Ok(event) = Event::decode(held) {
                self.waiting.extend(event.cause);
            }
        }
    }
}
