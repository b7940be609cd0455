//! Whatever happens in a story, and whenever readers go and return: each has every event once, in order, and of each
//! running response exactly its text.

mod made;
mod places;
mod reader;

use std::collections::BTreeMap;

use proptest::prelude::*;
use story::{Agent, AuthorKind, LogEntry};

use self::made::{action, blocked, castle, event, failed, id, start};
use self::reader::{Reader, logged};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Act,
    /// Twice, with so much text that nothing else is remembered.
    Recite,
    /// Takes back what was said so many events ago.
    Retract(usize),
    Begin,
    Grow(usize, u8),
    Restart(usize),
    Commit(usize),
    Fail(usize),
    /// It was generated whole, and is blocked.
    Block(usize),
    Leave(usize),
    /// Somebody else is in their place, who has nothing.
    Replace(usize),
    /// And is cut off after so many items.
    Return(usize, u8),
    /// All go to a node that knows of no more than the last events, and has just read which drafts run.
    Move(u8),
}

const READERS: usize = 3;
/// Events that whoever has nothing is given.
const TAIL: usize = 5;

/// Long texts take long: some cases have one.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![1_500 => short_step(), 1 => Just(Step::Recite)]
}

fn short_step() -> impl Strategy<Value = Step> {
    let which = 0..4_usize;
    prop_oneof![
        2 => Just(Step::Act),
        1 => (0..8_usize).prop_map(Step::Retract),
        3 => Just(Step::Begin),
        9 => (which.clone(), 1..4_u8).prop_map(|(which, n)| Step::Grow(which, n)),
        1 => which.clone().prop_map(Step::Restart),
        2 => which.clone().prop_map(Step::Commit),
        1 => which.clone().prop_map(Step::Fail),
        1 => which.prop_map(Step::Block),
        4 => (0..READERS).prop_map(Step::Leave),
        1 => (0..READERS).prop_map(Step::Replace),
        3 => (0..READERS).prop_map(|who| Step::Return(who, u8::MAX)),
        2 => (0..READERS, 0..4_u8).prop_map(|(who, cut)| Step::Return(who, cut)),
        1 => (1..8_u8).prop_map(Step::Move),
    ]
}

/// A response that is being generated, for this action.
#[derive(Debug, Clone)]
struct Truth {
    re: EventId,
    cause: EventId,
    attempt: u32,
    upto: u32,
    text: String,
}

struct World {
    memory: Memory,
    log: Vec<LogEntry>,
    /// Where a watch is in a draft.
    draft: Option<Position>,
    seq: u64,
    last: EventId,
    running: Vec<Truth>,
    readers: Vec<Reader>,
}

impl World {
    fn new() -> Self {
        let mut readers = Vec::new();
        readers.resize_with(READERS, Reader::default);
        let mut world = Self {
            memory: Memory::new(castle(), start()),
            log: Vec::new(),
            draft: None,
            seq: 0,
            last: id("a0"),
            running: Vec::new(),
            readers,
        };
        world.act();
        world
    }

    fn take(&mut self, step: &Step) {
        let running = self.running.len();
        match *step {
            Step::Act => self.act(),
            Step::Recite => {
                let text = "a verse ".repeat(BYTES / 16);
                self.say(&text);
                self.say(&text);
            }
            Step::Retract(ago) => self.retract(ago),
            Step::Begin if running < 4 => self.begin(),
            Step::Grow(which, n) if running > 0 => self.grow(which % running, n),
            Step::Restart(which) if running > 0 => {
                let truth = &mut self.running[which % running];
                (truth.attempt, truth.upto) = (truth.attempt + 1, 0);
                truth.text.clear();
                let (re, attempt) = (truth.re.clone(), truth.attempt);
                self.see(Seen::Reset { re, attempt }, Some(which % running));
            }
            Step::Commit(which) if running > 0 => {
                let truth = self.running.remove(which % running);
                self.log(event(truth.re, AuthorKind::Agent, action("You wait")));
            }
            Step::Fail(which) if running > 0 => {
                let truth = self.running.remove(which % running);
                // One failure ends all that its cause began.
                self.running.retain(|other| other.cause != truth.cause);
                let fresh = id(&format!("f{}", self.seq));
                let mut failed = event(fresh, AuthorKind::Agent, failed());
                failed.cause.push(truth.cause);
                self.log(failed);
            }
            Step::Block(which) if running > 0 => {
                let truth = self.running.remove(which % running);
                self.block(truth.re);
            }
            Step::Leave(which) => self.readers[which].here = false,
            Step::Replace(which) => self.readers[which] = Reader::default(),
            Step::Return(which, cut) if !self.readers[which].here => self.comes(which, cut),
            Step::Move(events) => self.moves(events.into()),
            _ => {}
        }
    }

    fn begin(&mut self) {
        let cause = self.last.clone();
        let made = event(cause.clone(), AuthorKind::User, action("I wait"));
        let part = (0..).find(|part| {
            let re = made.response(Agent::Narrator, *part);
            self.running.iter().all(|truth| truth.re != re)
        });
        self.running.push(Truth {
            re: made.response(Agent::Narrator, part.unwrap()),
            cause,
            attempt: 1,
            upto: 0,
            text: String::new(),
        });
        self.grow(self.running.len() - 1, 1);
        self.act();
    }

    fn act(&mut self) {
        self.say("I wait");
    }

    fn say(&mut self, text: &str) {
        self.last = id(&format!("a{}", self.seq));
        self.log(event(self.last.clone(), AuthorKind::User, action(text)));
    }

    /// As it is done: the log has the event without its text before anybody is told.
    fn retract(&mut self, ago: usize) {
        let is_told = |entry: &&mut LogEntry| matches!(entry.event.payload(), Payload::Action(action) if !action.text.is_empty());
        let Some(entry) = self.log.iter_mut().rev().filter(is_told).nth(ago) else {
            return;
        };
        let target = entry.event.id.clone();
        entry.event = event(target.clone(), entry.event.author.kind.clone(), action(""));
        let fresh = id(&format!("r{}", self.seq));
        let reason = String::new();
        let retracted = Payload::Retracted(story::Retracted { target, reason });
        self.log(event(fresh, AuthorKind::Agent, retracted));
    }

    fn block(&mut self, target: EventId) {
        let fresh = id(&format!("v{}", self.seq));
        self.log(event(fresh, AuthorKind::Agent, blocked(target)));
    }

    fn log(&mut self, event: Event) {
        self.seq += 1;
        let seq = Seq(self.seq);
        let entry = LogEntry { seq, event };
        self.log.push(entry.clone());
        self.see(Seen::Event(entry), None);
    }

    fn grow(&mut self, which: usize, n: u8) {
        let truth = &mut self.running[which];
        let (i, n) = (truth.upto, u32::from(n));
        let text = format!("{}.{i} ", truth.attempt);
        truth.upto += n;
        truth.text.push_str(&text);
        let (re, attempt) = (truth.re.clone(), truth.attempt);
        let delta = Seen::Delta {
            re,
            attempt,
            i,
            n,
            text,
        };
        self.see(delta, Some(which));
    }

    /// The place after it is in the draft `which`, or where the watch was in one before.
    fn see(&mut self, seen: Seen, which: Option<usize>) {
        let mut at = start();
        at.seq = Seq(self.seq);
        at.tag = match &seen {
            Seen::Event(entry) => Tag::of(&entry.event.id),
            _ => self.memory.at.tag,
        };
        let ends = |at: &mut Position| matches!(&seen, Seen::Event(entry) if entry.event.id == at.response);
        self.draft.take_if(ends);
        if let Some(which) = which {
            self.draft = Some(self.running[which].position());
        }
        at.draft = self.draft.clone();
        let item = self.memory.see(seen, at);
        for reader in self.readers.iter_mut().filter(|reader| reader.here) {
            reader.given(&item);
        }
    }

    fn comes(&mut self, which: usize, cut: u8) {
        let mut left = usize::from(cut);
        loop {
            let (mut items, is_all) = self.missing(which);
            if is_all {
                items.push(self.memory.live());
            }
            let reader = &mut self.readers[which];
            for item in items {
                if left == 0 {
                    return;
                }
                left -= 1;
                let is_told = |event: &Event| self.log.iter().any(|entry| entry.event == *event);
                assert!(item.event().is_none_or(is_told), "it was taken back");
                reader.given(&item);
            }
            if is_all {
                break;
            }
        }
        self.readers[which].here = true;
    }

    /// What a reader is given next, and whether that is all.
    fn missing(&mut self, which: usize) -> (Vec<Arc<Item>>, bool) {
        let reader = &mut self.readers[which];
        let from = if let Some(at) = &reader.at {
            match self.memory.join(at, true) {
                Join::Here(items) => return (items, true),
                Join::Log => at.clone(),
                other => panic!("{other:?} for {at}"),
            }
        } else {
            reader.seq = self.seq.saturating_sub(TAIL as u64);
            if let Some(items) = self.memory.tail(TAIL) {
                return (items, true);
            }
            let mut before = start();
            before.seq = Seq(reader.seq);
            before
        };
        let missed = logged(&self.log, &from, self.memory.start().seq);
        assert!(!missed.is_empty(), "the log is read in vain from {from}");
        (missed, false)
    }

    fn moves(&mut self, events: usize) {
        let known = self.log.len().saturating_sub(events);
        let mut from = start();
        if let Some(entry) = known.checked_sub(1).and_then(|last| self.log.get(last)) {
            (from.seq, from.tag) = (entry.seq, Tag::of(&entry.event.id));
        }
        self.memory = Memory::new(castle(), from);
        self.draft = None;
        for reader in &mut self.readers {
            reader.here = false;
        }
        for entry in &self.log[known..] {
            let mut at = start();
            (at.seq, at.tag) = (entry.seq, Tag::of(&entry.event.id));
            self.memory.see(Seen::Event(entry.clone()), at);
        }
        for which in 0..self.running.len() {
            let truth = &self.running[which];
            let seen = Seen::Snapshot {
                re: truth.re.clone(),
                attempt: truth.attempt,
                upto: truth.upto,
                text: truth.text.clone(),
            };
            self.see(seen, Some(which));
        }
    }

    fn check(&self) {
        assert!(self.memory.events.len() <= EVENTS && self.memory.bytes <= BYTES);
        let truths = self.running.iter().filter(|truth| truth.upto > 0);
        let truths: BTreeMap<_, _> = truths
            .map(|truth| {
                let text = (truth.attempt, truth.upto, truth.text.clone());
                (truth.re.to_string(), text)
            })
            .collect();
        for reader in self.readers.iter().filter(|reader| reader.here) {
            let mut drafts = reader.drafts.clone();
            // One that has begun anew has no text yet.
            drafts.retain(|_, (_, upto, _)| *upto > 0);
            assert_eq!((reader.seq, drafts), (self.seq, truths.clone()));
        }
    }
}

impl Truth {
    fn position(&self) -> Position {
        Position {
            response: self.re.clone(),
            attempt: self.attempt,
            i: self.upto,
        }
    }
}

proptest! {
    #[test]
    fn every_reader_has_every_character_once(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        for which in 0..READERS {
            world.take(&Step::Return(which, u8::MAX));
        }
        world.check();
    }
}
