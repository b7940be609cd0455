//! A story that is put together from another one, or from a file. Nobody sees it before it is whole.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use story::{ContentChange, EventId, LogEntry, MAX_EVENT_BYTES, Seq, StoryId};

use crate::fields::{character_json, content_fields, policy_fields};
use crate::keys::Keys;
use crate::letters::{fence, letters};
use crate::log::MAX_PLACE;
use crate::recordings::{Keep, Kept};
use crate::reply::verdict;
use crate::script::{Call, Script};
use crate::stories::{MAX_STORY_BYTES, MAX_TITLE_BYTES};
use crate::{Bus, Error, Replicated, Story};

pub(crate) static ADOPT: Script = Script::new(include_str!("../scripts/adopt.lua"));

/// How long what is staged stays when nobody goes on.
const STAGED: Duration = Duration::from_secs(60 * 60);
/// How often a log that goes on meanwhile is looked at; what is still lost then is the doctor's.
const ROUNDS: usize = 20;
/// Commands sent at once.
const AT_ONCE: usize = 32;

/// A story in the making.
#[derive(Debug)]
pub struct Stage {
    bus: Bus,
    id: StoryId,
    epoch: String,
    /// A name of its own, so that two of them for one story do not mix.
    run: String,
    last: Seq,
    /// Entries so far, of the log and of the recordings.
    events: u64,
    recordings: u64,
    /// The ids in the log.
    ids: HashSet<EventId>,
}

impl Bus {
    /// Begins to put the story `id` together.
    ///
    /// # Errors
    /// [`Error::StoryExists`]; or Redis was not reached.
    pub async fn stage(&self, id: &StoryId) -> Result<Stage, Error> {
        match self.story(id).await {
            Err(Error::NoStory(_)) => Ok(Stage {
                bus: self.clone(),
                id: id.clone(),
                epoch: letters(),
                run: letters(),
                last: Seq(0),
                events: 0,
                recordings: 0,
                ids: HashSet::new(),
            }),
            Ok(_) => Err(Error::StoryExists(id.clone())),
            Err(error) => Err(error),
        }
    }

    /// Gives the actions of a log that nothing answers to their agents, as in a story whose log was cut between the two;
    /// tells how many, and of how many replicas that is known.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn go_on(&self, story: &StoryId) -> Result<(u64, Replicated), Error> {
        let (mut admitted, mut fewest) = (0, Replicated::Unasked);
        for _ in 0..ROUNDS {
            let inspected = self.inspect(story).await?;
            let lost = inspected
                .lost
                .iter()
                .filter_map(|(_, event)| event.as_ref());
            let mut moved = false;
            for event in lost.filter(|event| !story::passed(event).is_empty()) {
                // Where something was logged meanwhile, it may be its answer: the log is looked at again.
                match self.readmit(event, inspected.end).await? {
                    Some(replicated) => {
                        admitted += 1;
                        fewest = fewest.or_fewer(replicated);
                    }
                    None => moved = true,
                }
            }
            if !moved {
                break;
            }
        }
        Ok((admitted, fewest))
    }
}

impl Stage {
    /// The next events, each in its place; they become this story's.
    ///
    /// # Errors
    /// [`Error::Misplaced`] when a place is not behind the last one, or an event is there twice; [`Error::TooLarge`]; or Redis was not reached.
    pub async fn log(&mut self, entries: Vec<LogEntry>) -> Result<(), Error> {
        let [log, seen, _] = self.staged();
        let now = jiff::Timestamp::now().as_millisecond();
        let mut commands = Vec::with_capacity(2 * entries.len());
        for entry in entries {
            let Seq(seq) = entry.seq;
            if entry.seq <= self.last {
                let what = format!("the event at {seq} comes after the one at {}", self.last);
                return Err(Error::Misplaced(what));
            }
            if seq > MAX_PLACE {
                let what = format!("the event at {seq} is behind any place that a log has");
                return Err(Error::Misplaced(what));
            }
            if self.ids.contains(&entry.event.id) {
                let what = format!("the event at {seq}, {}, is there twice", entry.event.id);
                return Err(Error::Misplaced(what));
            }
            self.last = entry.seq;
            self.events += 1;
            let mut event = entry.event;
            event.story = self.id.clone();
            let json = event.encode();
            if json.len() > MAX_EVENT_BYTES {
                return Err(Error::TooLarge(json.len()));
            }
            self.ids.insert(event.id.clone());
            let mut add = redis::cmd("XADD");
            add.arg(&log)
                .arg(format!("{}-0", entry.seq))
                .arg("e")
                .arg(json)
                .arg("t")
                .arg(now);
            let mut take = redis::cmd("ZADD");
            take.arg(&seen).arg(now).arg(event.id.as_str());
            commands.extend([add, take]);
        }
        self.send(&commands, &[log, seen]).await
    }

    /// Recordings of its turns, in their order.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub async fn recordings(&mut self, recordings: &[Kept]) -> Result<(), Error> {
        let [_, _, rec] = self.staged();
        let commands: Vec<_> = recordings
            .iter()
            .map(|kept| {
                let mut add = redis::cmd("XADD");
                add.arg(&rec)
                    .arg("*")
                    .arg("agent")
                    .arg(&kept.agent)
                    .arg("id")
                    .arg(kept.id.as_str());
                add.arg("seq")
                    .arg(kept.seq.0)
                    .arg("epoch")
                    .arg(&self.epoch)
                    .arg("z")
                    .arg(&kept.bytes);
                add
            })
            .collect();
        self.send(&commands, &[rec]).await?;
        self.recordings += u64::try_from(recordings.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Makes the story, with what is known of it as in `of`, and tells whether replicas have all of it: what was put together
    /// is before that in what they are sent. `redriven`: how often events were sent again after a failure.
    ///
    /// # Errors
    /// [`Error::StoryExists`] when somebody else made one meanwhile; more is known of it than [`MAX_STORY_BYTES`]; or Redis
    /// was not reached.
    pub async fn adopt(
        &self,
        of: &Story,
        redriven: &BTreeMap<EventId, u64>,
        keep: Keep,
    ) -> Result<Replicated, Error> {
        Error::check_size("the title", of.title.len(), MAX_TITLE_BYTES)?;
        Error::check_size("the summary", of.summary.len(), MAX_STORY_BYTES)?;
        let keys: &Keys = &self.bus.keys;
        let id = &self.id;
        let mut call = ADOPT.call();
        call.key(keys.ctx(id))
            .key(keys.chars(id))
            .key(keys.lore(id))
            .key(keys.stories(keys.shard(id)));
        let [log, seen, rec] = self.staged();
        call.keys([
            log,
            keys.log(id),
            seen,
            keys.seen(id),
            rec,
            keys.recordings(id),
        ]);
        call.keys([keys.gone(id), keys.drafts(id), keys.redriven(id)]);
        call.arg(id.as_str()).number(self.last.0).number(3_u64);
        call.number(u64::try_from(keep.age.as_millis()).unwrap_or(u64::MAX))
            .arg(self.run.as_str());
        let ids = u64::try_from(self.ids.len()).unwrap_or(u64::MAX);
        call.number(self.events).number(ids).number(self.recordings);
        let mut ctx = vec![
            ("epoch", self.epoch.as_str()),
            ("title", &of.title),
            ("style", &of.style),
            ("premise", &of.premise),
        ];
        ctx.extend(policy_fields(of.policies.into()));
        let content = content_fields(&ContentChange::from(&of.content));
        ctx.extend(content.iter().map(|(name, value)| (*name, value.as_str())));
        let people = of.characters.iter();
        let people: Vec<_> = people
            .map(|(name, one)| (name, character_json(one)))
            .collect();
        let lore: Vec<_> = of.lore.iter().collect();
        let known = bytes(&ctx) + bytes(&people) + bytes(&lore);
        Error::check_size("what is known of the story", known, MAX_STORY_BYTES)?;
        // They are the agents', and count for nobody.
        let fence = fence();
        ctx.extend([("summary", of.summary.as_str()), ("fence", &fence)]);
        let redriven = redriven.iter().filter(|(id, _)| self.ids.contains(id));
        let redriven = redriven.map(|(id, times)| (id.as_str(), times.to_string()));
        pairs(&mut call, ctx);
        pairs(&mut call, people);
        pairs(&mut call, lore);
        pairs(&mut call, redriven.collect());
        let (reply, replicated) = call.run_until_replicated(&self.bus.writing).await?;
        match verdict(reply)?.0.as_str() {
            "OK" => Ok(replicated),
            "EXISTS" => Err(Error::StoryExists(self.id.clone())),
            "LOST" => Err(Error::data(format!(
                "what was put together of {} is lost, Redis was away meanwhile: begin anew",
                self.id
            ))),
            word => Err(Error::data(format!("adopt replied {word}"))),
        }
    }

    /// Puts the story together, and leaves nothing of it where that fails; where Redis is not reached even for that, it goes
    /// by itself in an hour.
    ///
    /// # Errors
    /// Those of `put`.
    pub async fn through<T, E>(
        mut self,
        put: impl AsyncFnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let done = put(&mut self).await;
        if done.is_err() {
            let mut cmd = redis::cmd("DEL");
            cmd.arg(&self.staged());
            self.bus.link.query(&cmd).await.ok();
        }
        done
    }

    /// The keys of its log, of the ids in it, and of its recordings, until it is whole.
    fn staged(&self) -> [String; 3] {
        ["log", "seen", "rec"].map(|kind| self.bus.keys.staged(&self.id, &self.run, kind))
    }

    async fn send(&self, commands: &[redis::Cmd], keys: &[String]) -> Result<(), Error> {
        for some in commands.chunks(AT_ONCE) {
            let mut pipe = redis::pipe();
            // What is there without an end of its life would stay.
            pipe.atomic();
            for command in some {
                pipe.add_command(command.clone());
            }
            for key in keys {
                pipe.cmd("PEXPIRE")
                    .arg(key)
                    .arg(STAGED.as_millis().to_string());
            }
            self.bus.link.pipe(&pipe).await?;
        }
        Ok(())
    }
}

fn bytes<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> usize {
    let sizes = pairs
        .iter()
        .map(|(name, value)| name.as_ref().len() + value.as_ref().len());
    sizes.sum()
}

fn pairs<N: AsRef<str>, V: AsRef<str>>(call: &mut Call, pairs: Vec<(N, V)>) {
    call.count(&pairs);
    for (name, value) in pairs {
        call.arg(name.as_ref()).arg(value.as_ref());
    }
}
