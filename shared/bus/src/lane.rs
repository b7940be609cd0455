//! Events into lanes and out of them: publish, commit, bury. Each is one script, so that it happens or does not.

use redis::Value;
use story::{Agent, Event, EventId, MAX_EVENT_BYTES, Route, Seq, StoryId};

use crate::draft::place;
use crate::keys::Keys;
use crate::recordings::Recording;
use crate::replicas::Replicated;
use crate::reply::{read, verdict};
use crate::script::{BURY, COMMIT, Call, PUBLISH};
use crate::{Bus, Delivery, Error};

/// How many events of one story may wait for one agent.
const MAX_PARKED: u64 = 1_000;

/// How long an event's id is remembered: 24 h.
const REMEMBERED_MS: u64 = 24 * 60 * 60 * 1_000;

/// What became of a published event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    Logged(Seq),
    /// It waits for the moderator; readers do not see it yet.
    Held,
    /// Its id was accepted before; nothing was done.
    Duplicate,
}

/// Everything that a worker made of an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Commit {
    /// The parked events answered in the same beat, from the head of the lane.
    pub consume: Vec<EventId>,
    /// New events, in the order in which readers see them.
    pub emit: Vec<Emit>,
    /// Fields of the story's context to set.
    pub fields: Vec<(String, String)>,
    /// The log's place of what is answered, where an agent said it and it is known. If it was taken back meanwhile, only the
    /// entry and its drafts end.
    pub answers: Option<Seq>,
    /// An event of the log whose text is taken away.
    pub retract: Option<EventId>,
    /// The responses whose drafts end here.
    pub responses: Vec<EventId>,
    pub recording: Option<Recording>,
}

/// An event and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Emit {
    pub event: Event,
    pub route: Route,
}

/// Why an event is given up on.
#[derive(Debug, Clone, PartialEq)]
pub struct Burial {
    /// For operators.
    pub reason: String,
    /// The error's class: `rate`, `crash`, `undecodable` …
    pub class: String,
    pub tries: u32,
    /// What the story's readers are told.
    pub failed: Option<Event>,
    /// As [`Commit::answers`]. If it was taken back meanwhile, the entry ends without a letter, and nobody is told.
    pub answers: Option<Seq>,
    pub recording: Option<Recording>,
}

/// What became of a commit or a burial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// All of it happened; the places of the events that were logged.
    Done(Vec<Seq>),
    /// The entry is gone, and an earlier try of this call had no reply: it was done then. (Or before, by another worker to
    /// whom the lease had passed: the entry does not tell.)
    Already,
    /// The entry had ended before. (On a cluster, perhaps by this call: its client sends again by itself where it got no reply.)
    Gone,
    /// Another worker holds the entry now; nothing was written.
    Fenced,
}

impl Bus {
    /// Accepts an event: once, into the log and the lanes of the agents that act on it.
    ///
    /// # Errors
    /// [`Error::NotPublishable`], [`Error::NoStory`], [`Error::LaneFull`], [`Error::TooLarge`]; or Redis was not reached, and the same call can
    /// be made again without harm. [`Error::Unheard`] where it may have been accepted.
    pub async fn publish(&self, event: &Event) -> Result<Published, Error> {
        let (published, _) = self.publish_replicated(event).await?;
        Ok(published)
    }

    /// The same; tells also whether replicas have it.
    ///
    /// # Errors
    /// Those of [`Bus::publish`].
    pub async fn publish_replicated(
        &self,
        event: &Event,
    ) -> Result<(Published, Replicated), Error> {
        if !story::may_publish(event) {
            return Err(Error::NotPublishable);
        }
        let json = encoded(event)?;
        let (keys, story) = (&self.keys, &event.story);
        let mut call = PUBLISH.call();
        call.key(keys.ctx(story))
            .key(keys.seen(story))
            .key(keys.log(story))
            .key(keys.live(story))
            .keys(keys.lane(Agent::Moderator, story).into_keys());
        call.arg(story.as_str())
            .arg(event.id.as_str())
            .arg(event.kind())
            .arg(json)
            .number(MAX_PARKED)
            .number(REMEMBERED_MS);
        for step in story::passed(event) {
            call.keys(keys.lane(step.agent, story).into_keys());
            call.number(step.part);
        }
        let (reply, replicated) = call.run_until_known(&self.writing).await?;
        let (word, rest) = verdict(reply)?;
        match word.as_str() {
            "OK" => {
                let seq = seqs(rest)?.first().copied().unwrap_or_default();
                Ok((Published::Logged(seq), replicated))
            }
            "HELD" => Ok((Published::Held, replicated)),
            "DUP" => Ok((Published::Duplicate, replicated)),
            "FULL" => Err(Error::LaneFull(story.clone())),
            "NOSTORY" => Err(Error::NoStory(story.clone())),
            _ => Err(Error::data(format!("publish replied {word}"))),
        }
    }

    /// Applies all effects and ends the entry, or does nothing. When the reply is lost, the same call is sent again.
    ///
    /// # Errors
    /// [`Error::Moved`] when `consume` is not what waits next; [`Error::TooLarge`]; or Redis was not reached: the
    /// entry then comes back to some worker. After [`Error::Unheard`] the commit may have been done: whoever asks again then
    /// takes [`Committed::Gone`] for [`Committed::Already`].
    pub async fn commit(&self, delivery: &Delivery, effects: &Commit) -> Result<Committed, Error> {
        let Ok(work) = &delivery.work else {
            return Err(Error::data("a malformed entry can only be buried"));
        };
        let story = &work.story;
        let mut call = commit_head(&self.keys, delivery, story);
        call.number(place(effects.answers));
        call.count(&effects.consume);
        for id in &effects.consume {
            call.arg(id.as_str());
        }
        call.count(&effects.fields);
        for (name, value) in &effects.fields {
            call.arg(name.as_str()).arg(value.as_str());
        }
        let retraction = match &effects.retract {
            Some(id) => self.retraction(delivery, story, id).await?,
            None => Ok(None),
        };
        let retraction = match retraction {
            Ok(retraction) => retraction,
            Err(refused) => return Ok(refused),
        };
        call.count(retraction.as_slice());
        let mut answers = Vec::new();
        if let Some(gone) = retraction {
            call.number(gone.seq.0).arg(gone.tombstone);
            call.count(&gone.answers);
            for (agent, id) in &gone.answers {
                call.arg(agent.as_str()).arg(id.as_str());
            }
            answers = gone.answers;
        }
        call.count(&effects.responses);
        for id in &effects.responses {
            call.key(self.keys.draft_base(story, id)).arg(id.as_str());
        }
        for (_, id) in &answers {
            call.key(self.keys.draft_base(story, id));
        }
        call.count(&effects.emit);
        for emit in &effects.emit {
            emitted(&mut call, emit, story)?;
        }
        call.count(effects.recording.as_slice());
        if let Some(recording) = &effects.recording {
            recording.args(&work.id, &mut call);
        }
        committed(call.run_until_ended(&self.writing).await?)
    }

    /// Moves an entry to the dead letters, tells the story's readers, and lets the lane go on.
    ///
    /// # Errors
    /// When Redis was not reached: the entry then comes back. After [`Error::Unheard`] the burial may have been done.
    pub async fn bury(&self, delivery: &Delivery, burial: &Burial) -> Result<Committed, Error> {
        let (keys, agent, lease) = (&self.keys, delivery.agent, &delivery.lease);
        let story = match &delivery.work {
            Ok(work) => Some(&work.story),
            Err(malformed) => malformed.story.as_ref(),
        };
        let mut call = BURY.call();
        call.key(keys.work(agent, lease.shard))
            .key(keys.dead(agent, lease.shard));
        if let Some(story) = story {
            let lane = keys.lane(agent, story);
            call.key(lane.turn)
                .key(lane.parked)
                .key(keys.ctx(story))
                .key(keys.log(story))
                .key(keys.live(story))
                .key(keys.drafts(story))
                .key(keys.recordings(story))
                .key(keys.gone(story));
        }
        let response = delivery.work.as_ref().ok().map(|work| work.response(agent));
        if let (Some(story), Some(response)) = (story, &response) {
            call.key(keys.draft_base(story, response));
        }
        let failed = burial.failed.as_ref().map(encoded).transpose()?;
        call.arg(lease.entry.as_str())
            .arg(delivery.consumer.as_str())
            .arg(agent.as_str())
            .arg(burial.reason.as_str())
            .arg(burial.class.as_str())
            .number(burial.tries)
            .arg(failed.unwrap_or_default())
            .arg(response.as_ref().map_or("", |id| id.as_str()))
            .number(place(burial.answers));
        if let (Some(recording), Ok(work)) = (&burial.recording, &delivery.work) {
            recording.args(&work.id, &mut call);
        }
        committed(call.run_until_ended(&self.writing).await?)
    }
}

/// The keys and the first arguments of commit.lua.
fn commit_head(keys: &Keys, delivery: &Delivery, story: &StoryId) -> Call {
    let mut call = COMMIT.call();
    call.key(keys.ctx(story))
        .key(keys.log(story))
        .key(keys.live(story))
        .key(keys.drafts(story))
        .key(keys.gone(story))
        .key(keys.seen(story))
        .key(keys.recordings(story));
    for agent in Agent::ALL {
        call.keys(keys.lane(agent, story).into_keys());
    }
    call.arg(story.as_str())
        .arg(delivery.agent.as_str())
        .arg(delivery.lease.entry.as_str())
        .arg(delivery.consumer.as_str())
        .count(&Agent::ALL)
        .number(lane_number(delivery.agent))
        .number(lane_number(Agent::Moderator));
    call
}

/// Which of the lanes in commit.lua's KEYS is that of `agent`.
fn lane_number(agent: Agent) -> u64 {
    (1..)
        .zip(Agent::ALL)
        .find(|(_, each)| *each == agent)
        .map_or(0, |(number, _)| number)
}

fn emitted(call: &mut Call, emit: &Emit, story: &StoryId) -> Result<(), Error> {
    if &emit.event.story != story {
        return Err(Error::data("an emitted event is of another story"));
    }
    call.arg(encoded(&emit.event)?).arg(emit.event.id.as_str());
    match &emit.route {
        Route::Held => _ = call.arg("held").number(0_u64),
        Route::Logged(steps) => {
            call.arg("logged").count(steps);
            for step in steps {
                call.number(lane_number(step.agent)).number(step.part);
            }
        }
    }
    Ok(())
}

fn encoded(event: &Event) -> Result<String, Error> {
    let json = event.encode();
    if json.len() > MAX_EVENT_BYTES {
        return Err(Error::TooLarge(json.len()));
    }
    Ok(json)
}

fn committed((reply, unheard): (Value, bool)) -> Result<Committed, Error> {
    let (word, rest) = verdict(reply)?;
    match word.as_str() {
        "OK" => Ok(Committed::Done(seqs(rest)?)),
        "GONE" if unheard => Ok(Committed::Already),
        "GONE" => Ok(Committed::Gone),
        "FENCED" => Ok(Committed::Fenced),
        "MOVED" => Err(Error::Moved),
        _ => Err(Error::data(format!("the script replied {word}"))),
    }
}

fn seqs(values: Vec<Value>) -> Result<Vec<Seq>, Error> {
    values
        .into_iter()
        .map(|value| read(value).map(Seq))
        .collect()
}
