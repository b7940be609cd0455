//! What should be true of Redis: each step of the protocol in a few lines, where nothing can fail.

use std::collections::{BTreeMap, VecDeque};

use bus::{Commit, Delivery, LeaseId};
use story::{
    Agent, Event, EventId, InputPolicy, OutputPolicy, Policies, RecordingPolicy, Route, Seq,
    ended_with,
};

/// Names and policies; the second one lies in another shard than the others.
pub(crate) const STORIES: [(&str, Policies); 3] = [
    ("castle", policies(InputPolicy::Off, OutputPolicy::Off)),
    ("forest", policies(InputPolicy::Hold, OutputPolicy::Hold)),
    ("sea", policies(InputPolicy::Off, OutputPolicy::Retract)),
];
pub(crate) const SHARDS: u16 = 2;

const fn policies(input: InputPolicy, output: OutputPolicy) -> Policies {
    Policies {
        input,
        output,
        recording: RecordingPolicy::On,
    }
}

pub(crate) fn shard(story: usize) -> u16 {
    u16::from(story == 1)
}

/// Which lane: the agent, and an index into `STORIES`.
pub(crate) type At = (Agent, usize);

/// One step of one event in a lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) event: Event,
    pub(crate) part: u32,
    pub(crate) held: bool,
}

/// What became of the first step of a lane, which alone is in the work stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Head {
    #[default]
    Undelivered,
    Leased {
        lease: LeaseId,
        owner: String,
        deliveries: u32,
    },
    /// Its owner was destroyed with all that it held.
    Stranded,
}

#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub(crate) head: Head,
    pub(crate) steps: VecDeque<Step>,
}

/// What a story has beside its lanes.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Each event, and whether its words were taken away.
    pub(crate) log: Vec<(EventId, bool)>,
    /// What readers see being written.
    pub(crate) running: BTreeMap<Agent, (EventId, u32)>,
    /// The last attempt at each response that has no end yet, and its chunks.
    pub(crate) attempts: BTreeMap<EventId, (u32, Vec<String>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) lanes: BTreeMap<At, Lane>,
    pub(crate) rooms: BTreeMap<usize, Room>,
    pub(crate) dead: Vec<(At, Step)>,
}

/// What a call with a delivery should find.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    Owner,
    Fenced,
    Gone,
}

impl Model {
    /// The seq, unless the moderator has it first.
    pub(crate) fn publish(&mut self, story: usize, event: &Event) -> Option<u64> {
        let route = story::route(event, STORIES[story].1);
        let logged = route != Route::Held;
        self.emit(story, event, &route);
        logged.then(|| self.room(story).log.len() as u64)
    }

    pub(crate) fn standing(&self, at: At, delivery: &Delivery) -> Standing {
        match &self.lanes[&at].head {
            Head::Leased { lease, owner, .. } if *lease == delivery.lease => {
                if *owner == delivery.consumer {
                    Standing::Owner
                } else {
                    Standing::Fenced
                }
            }
            _ => Standing::Gone,
        }
    }

    pub(crate) fn commit(&mut self, at: At, commit: &Commit) {
        let is_gone = self.is_gone(at.1, commit.answers);
        let event = self.lanes[&at].steps[0].event.clone();
        self.end(at, if is_gone { 1 } else { 1 + commit.consume.len() });
        for re in &commit.responses {
            self.room(at.1).attempts.remove(re);
        }
        if is_gone {
            return;
        }
        if commit.retract.as_ref() == Some(&event.id) {
            self.retract(at.1, &event);
        }
        for emit in &commit.emit {
            self.emit(at.1, &emit.event, &emit.route);
        }
    }

    /// With all that is written of what characters were to say in it.
    fn retract(&mut self, story: usize, event: &Event) {
        let room = self.room(story);
        for (id, taken) in &mut room.log {
            *taken |= *id == event.id;
        }
        for step in story::passed(event) {
            let re = event.response(step.agent, step.part);
            if let Some((attempt, _)) = room.attempts.remove(&re)
                && room.running.get(&step.agent) == Some(&(re, attempt))
            {
                room.running.remove(&step.agent);
            }
        }
    }

    /// Where the log has an event.
    pub(crate) fn place(&self, story: usize, event: &Event) -> Option<Seq> {
        let log = &self.rooms.get(&story)?.log;
        let mut places = (1..).zip(log);
        let at = places.find(|(_, (id, _))| *id == event.id);
        at.map(|(seq, _)| Seq(seq))
    }

    /// Whether what stood there was taken back.
    pub(crate) fn is_gone(&self, story: usize, place: Option<Seq>) -> bool {
        let (Some(room), Some(place)) = (self.rooms.get(&story), place) else {
            return false;
        };
        let mut places = (1..).zip(&room.log);
        places.any(|(seq, (_, taken))| seq == place.0 && *taken)
    }

    /// `is_gone`: what it answers.
    pub(crate) fn bury(&mut self, at: At, re: &EventId, failed: &Event, is_gone: bool) {
        let step = self.lanes[&at].steps[0].clone();
        self.end(at, 1);
        if is_gone {
            return;
        }
        self.dead.push((at, step));
        let room = self.room(at.1);
        room.log.push((failed.id.clone(), false));
        if let Some((_, chunks)) = room.attempts.get_mut(re) {
            chunks.clear();
        }
    }

    pub(crate) fn redrive(&mut self, letter: usize) {
        let (at, step) = self.dead.remove(letter);
        self.lane(at).steps.push_back(step);
    }

    pub(crate) fn repair(&mut self) {
        for (at, lane) in &mut self.lanes {
            if lane.head == Head::Stranded {
                lane.head = Head::Undelivered;
                self.rooms.entry(at.1).or_default().running.remove(&at.0);
            }
        }
    }

    /// A new attempt that was given this number: the next one, or the time where that is later. `is_gone`: what it answers.
    pub(crate) fn reset(&mut self, at: At, re: &EventId, given: u32, is_gone: bool) {
        let known = self.attempt(at, re);
        let is_time = i64::from(given).abs_diff(jiff::Timestamp::now().as_second()) < 60;
        assert!(
            given == known + 1 || given > known && is_time,
            "{given} after {known}"
        );
        if !is_gone {
            let room = self.room(at.1);
            room.attempts.insert(re.clone(), (given, Vec::new()));
            room.running.insert(at.0, (re.clone(), given));
        }
    }

    /// A chunk of the holder of the lease; false when it comes too late.
    pub(crate) fn draft(
        &mut self,
        at: At,
        re: &EventId,
        attempt: u32,
        chunk: (usize, &str),
    ) -> bool {
        let room = self.room(at.1);
        let (known, chunks) = room.attempts.entry(re.clone()).or_default();
        if *known > attempt {
            return false;
        }
        if *known < attempt {
            (*known, *chunks) = (attempt, Vec::new());
        }
        let (i, text) = chunk;
        let spliced = chunks.iter().any(|written| written != text);
        assert!(i != chunks.len() || !spliced, "two texts in one attempt");
        if i == chunks.len() {
            chunks.push(text.to_owned());
            room.running.insert(at.0, (re.clone(), attempt));
        }
        true
    }

    pub(crate) fn attempt(&self, at: At, re: &EventId) -> u32 {
        let room = self.rooms.get(&at.1);
        let known = room.and_then(|room| room.attempts.get(re));
        known.map_or(0, |(attempt, _)| *attempt)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.steps.is_empty())
    }

    pub(crate) fn lane(&mut self, at: At) -> &mut Lane {
        self.lanes.entry(at).or_default()
    }

    fn room(&mut self, story: usize) -> &mut Room {
        self.rooms.entry(story).or_default()
    }

    fn end(&mut self, at: At, steps: usize) {
        let lane = self.lane(at);
        lane.head = Head::Undelivered;
        lane.steps.drain(..steps);
        self.room(at.1).running.remove(&at.0);
    }

    fn emit(&mut self, story: usize, event: &Event, route: &Route) {
        let step = |part, held| Step {
            event: event.clone(),
            part,
            held,
        };
        let Route::Logged(steps) = route else {
            let lane = self.lane((Agent::Moderator, story));
            lane.steps.push_back(step(0, true));
            return;
        };
        self.room(story).log.push((event.id.clone(), false));
        for next in steps {
            let lane = self.lane((next.agent, story));
            lane.steps.push_back(step(next.part, false));
        }
    }
}

impl Step {
    /// The id of the answer to it.
    pub(crate) fn response(&self, agent: Agent) -> EventId {
        self.event.response(agent, self.part)
    }

    /// What comes to an end with it.
    pub(crate) fn causes(&self) -> Vec<EventId> {
        ended_with(&self.event, self.held)
    }
}
