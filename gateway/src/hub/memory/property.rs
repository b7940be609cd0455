//! Whatever happens in a story, and whenever readers go and return: each has every event once, in order, and of each
//! running response exactly its text.

mod places;

use std::collections::BTreeMap;

use proptest::prelude::*;
use story::{Action, Agent, Author, AuthorKind, LogEntry, Mode};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Act,
    Begin,
    Grow(usize, u8),
    Restart(usize),
    Commit(usize),
    Fail(usize),
    Leave(usize),
    /// And is cut off after so many items.
    Return(usize, u8),
    /// All go to a node that knows of no more than the last events, and has just read which drafts run.
    Move(u8),
}

const READERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let which = 0..4_usize;
    prop_oneof![
        2 => Just(Step::Act),
        3 => Just(Step::Begin),
        9 => (which.clone(), 1..4_u8).prop_map(|(which, n)| Step::Grow(which, n)),
        1 => which.clone().prop_map(Step::Restart),
        2 => which.clone().prop_map(Step::Commit),
        1 => which.prop_map(Step::Fail),
        4 => (0..READERS).prop_map(Step::Leave),
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

#[derive(Debug, Default)]
struct Reader {
    here: bool,
    at: Option<Cursor>,
    seq: u64,
    drafts: BTreeMap<String, (u32, u32, String)>,
}

fn id(text: &str) -> EventId {
    text.parse().unwrap()
}

fn castle() -> Arc<StoryId> {
    Arc::new("castle".parse().unwrap())
}

fn start() -> Cursor {
    Cursor {
        epoch: "e".to_owned(),
        seq: Seq(0),
        tag: Tag::START,
        draft: None,
    }
}

fn event(id: EventId, kind: AuthorKind, payload: Payload) -> Event {
    let author = Author {
        kind,
        id: "u1".to_owned(),
        name: String::new(),
    };
    let at = jiff::Timestamp::UNIX_EPOCH;
    Event::new(id, StoryId::clone(&castle()), author, payload, at)
}

fn action() -> Payload {
    Payload::Action(Action {
        mode: Mode::Do,
        text: "I wait".to_owned(),
        to: None,
        choice: None,
        target: None,
    })
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
            Step::Begin if running < 4 => {
                let cause = self.last.clone();
                let made = event(cause.clone(), AuthorKind::User, action());
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
                self.grow(running, 1);
                self.act();
            }
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
                self.log(event(truth.re, AuthorKind::Agent, action()));
            }
            Step::Fail(which) if running > 0 => {
                let truth = self.running.remove(which % running);
                // One failure ends all that its cause began.
                self.running.retain(|other| other.cause != truth.cause);
                let failed = Payload::Failed(story::Failed {
                    agent: "narrator".to_owned(),
                    class: "crash".to_owned(),
                    tries: 3,
                    notice: String::new(),
                });
                let fresh = id(&format!("f{}", self.seq));
                let mut failed = event(fresh, AuthorKind::Agent, failed);
                failed.cause.push(truth.cause);
                self.log(failed);
            }
            Step::Leave(which) => self.readers[which].here = false,
            Step::Return(which, cut) if !self.readers[which].here => self.comes(which, cut),
            Step::Move(events) => self.moves(events.into()),
            _ => {}
        }
    }

    fn act(&mut self) {
        self.last = id(&format!("a{}", self.seq));
        self.log(event(self.last.clone(), AuthorKind::User, action()));
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
        let reader = &mut self.readers[which];
        let mut left = usize::from(cut);
        loop {
            let (mut items, is_all) = match &reader.at {
                Some(at) => match self.memory.join(at, true) {
                    Join::Here(items) => (items, true),
                    Join::Log => (logged(&self.log, at, self.memory.start().seq), false),
                    other => panic!("{other:?} for {at}"),
                },
                None => match self.memory.tail(1_000) {
                    Some(items) => (items, true),
                    None => (logged(&self.log, &start(), self.memory.start().seq), false),
                },
            };
            if is_all {
                items.push(self.memory.live());
            }
            for item in items {
                if left == 0 {
                    return;
                }
                left -= 1;
                reader.given(&item);
            }
            if is_all {
                break;
            }
        }
        reader.here = true;
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

/// What somebody who was away for long is given of the log, up to where the memory begins.
fn logged(log: &[LogEntry], from: &Cursor, upto: Seq) -> Vec<Arc<Item>> {
    let mut at = from.clone();
    let missed = log
        .iter()
        .filter(|entry| entry.seq > from.seq && entry.seq <= upto);
    let items = missed.map(|entry| {
        (at.seq, at.tag) = (entry.seq, Tag::of(&entry.event.id));
        at.draft.take_if(|draft| draft.response == entry.event.id);
        let seen = Seen::Event(entry.clone());
        Arc::new(Item::seen(castle(), Arc::new(at.clone()), seen))
    });
    items.collect()
}

impl Reader {
    fn given(&mut self, item: &Item) {
        let seen = match &item.told {
            Told::Seen(seen) => seen,
            Told::Live(running) => {
                self.drafts
                    .retain(|re, _| running.iter().any(|known| known.as_str() == re));
                return;
            }
        };
        match &**seen {
            Seen::Event(entry) => {
                assert_eq!(entry.seq.0, self.seq + 1);
                self.seq += 1;
                self.drafts.remove(entry.event.id.as_str());
                for re in &item.void {
                    self.drafts.remove(re.as_str());
                }
            }
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => {
                let new = (*attempt, 0, String::new());
                let draft = self.drafts.entry(re.to_string()).or_insert(new);
                assert_eq!((draft.0, draft.1), (*attempt, *i), "nothing is left out");
                draft.1 += n;
                draft.2.push_str(text);
            }
            Seen::Reset { re, attempt } => {
                let new = (*attempt, 0, String::new());
                self.drafts.insert(re.to_string(), new);
            }
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => {
                let all = (*attempt, *upto, text.clone());
                self.drafts.insert(re.to_string(), all);
            }
            Seen::Gap => panic!("nothing is missing"),
        }
        self.at = Some(item.cursor.to_string().parse().unwrap());
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
