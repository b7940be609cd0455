//! For any interleaving of writers, lost messages, cuts, restarts and failovers, a reader ends with exactly the log, and
//! on the way never has a character of a response twice, or one that is not the response's.

mod reader;
mod server;

use proptest::prelude::*;
use story::EventId;

use super::{Running, View};
use reader::{Reader, Screen};
use server::{Server, text, told};

#[derive(Debug, Clone)]
enum Step {
    /// An event that has no draft.
    Say,
    /// This writer adds some chunks to its response.
    Write {
        writer: usize,
        n: u32,
    },
    /// This writer starts its response anew.
    Reset {
        writer: usize,
    },
    Commit {
        writer: usize,
    },
    /// This writer's event is given up on.
    Bury {
        writer: usize,
    },
    /// This writer gets an event again that was given up on.
    Redrive {
        writer: usize,
    },
    /// The reader does this many things.
    Read {
        steps: u8,
    },
    /// The reader's connection drops: what was on its way is lost.
    Disconnect,
    /// The reader's live feed overflows: the oldest messages are lost.
    Overflow {
        messages: usize,
    },
    /// The oldest messages are lost and nobody notices.
    Lose {
        messages: usize,
    },
    /// The reader goes away and another one comes with its cursor.
    Resume,
    /// The last events are lost to a failover; sometimes the whole log, and the drafts. The reader's connection may
    /// outlive it: then only an event that comes in the place of another one tells.
    Failover {
        lost: usize,
        all: bool,
        drafts: bool,
        noticed: bool,
    },
    /// Retention removes the oldest events.
    Trim {
        keep: usize,
    },
    /// An event between others is destroyed in the log, and nothing stays in its place.
    Destroy {
        back: usize,
    },
    /// The count of the log's events runs ahead of the log.
    Miscount,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writer = 0..2_usize;
    let step = prop_oneof![
        3 => Just(Step::Say),
        10 => (writer.clone(), 1..4_u32).prop_map(|(writer, n)| Step::Write { writer, n }),
        1 => writer.clone().prop_map(|writer| Step::Reset { writer }),
        3 => writer.clone().prop_map(|writer| Step::Commit { writer }),
        1 => writer.clone().prop_map(|writer| Step::Bury { writer }),
        1 => writer.prop_map(|writer| Step::Redrive { writer }),
        12 => (1..8_u8).prop_map(|steps| Step::Read { steps }),
        2 => Just(Step::Disconnect),
        1 => (1..4_usize).prop_map(|messages| Step::Overflow { messages }),
        1 => (1..4_usize).prop_map(|messages| Step::Lose { messages }),
        2 => Just(Step::Resume),
        1 => (1..4_usize, prop::bool::weighted(0.3), prop::bool::ANY, prop::bool::ANY)
            .prop_map(|(lost, all, drafts, noticed)| Step::Failover { lost, all, drafts, noticed }),
        1 => (1..6_usize).prop_map(|keep| Step::Trim { keep }),
        1 => (0..6_usize).prop_map(|back| Step::Destroy { back }),
        1 => Just(Step::Miscount),
    ];
    prop::collection::vec(step, 1..120)
}

/// What happens to the server, if the step is of that kind.
fn happens(server: &mut Server, step: &Step) {
    match *step {
        Step::Say => {
            let id = server.id();
            server.append(id, told("I open the door".into()), 1);
        }
        Step::Write { writer, n } => server.write(writer, n),
        Step::Reset { writer } => server.reset(writer),
        Step::Commit { writer } => server.commit(writer),
        Step::Bury { writer } => server.bury(writer),
        Step::Redrive { writer } => server.redrive(writer),
        Step::Failover {
            lost, all, drafts, ..
        } => server.failover(lost, all, drafts),
        Step::Trim { keep } => {
            let excess = server.log.len().saturating_sub(keep);
            server.log.drain(..excess);
        }
        // After a failover that nobody told of, they would take away what tells of it.
        Step::Destroy { back } if !server.silent => server.destroy(back),
        Step::Miscount if !server.silent => server.end += 1,
        _ => {}
    }
}

/// What happens to the reader, if the step is of that kind.
fn suffers(server: &mut Server, reader: &mut Reader, step: &Step) {
    let lost = match *step {
        Step::Read { steps } => {
            for _ in 0..steps {
                reader.step(server);
            }
            return;
        }
        Step::Lose { .. } if server.silent => return,
        Step::Failover { noticed, .. } => {
            reader.reading = None;
            server.silent |= !noticed;
            if !noticed {
                return;
            }
            server.channel.len()
        }
        Step::Overflow { messages } | Step::Lose { messages } => messages,
        Step::Disconnect | Step::Resume => server.channel.len(),
        _ => return,
    };
    server.channel.drain(..lost.min(server.channel.len()));
    match step {
        Step::Lose { .. } => return,
        Step::Resume => {
            let cursor = reader.view.cursor().to_string();
            let view = View::new(cursor.parse().ok());
            let mut screen = std::mem::take(&mut reader.screen);
            if view.cursor().epoch.is_empty() {
                screen = Screen::default();
            }
            *reader = Reader::new(view, screen);
        }
        _ => reader.missed = true,
    }
    // A message of the lost history may be among those that are left.
    server.silent &= !server.channel.is_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_sees_every_character_exactly_once(steps in steps()) {
        let mut server = Server::default();
        let mut reader = Reader::new(View::new(None), Screen::default());
        for step in &steps {
            happens(&mut server, step);
            suffers(&mut server, &mut reader, step);
        }
        // As after some quiet time, and then some more.
        let mut left = 10_000;
        for missed in [false, true] {
            reader.missed |= missed;
            while reader.step(&mut server) {
                left -= 1;
                prop_assert!(left > 0, "the reader never comes to rest");
            }
        }
        let screen = reader.screen;
        let log: Vec<(u64, EventId)> = server.log.into_iter().map(|entry| (entry.seq.0, entry.event.id)).collect();
        let destroyed = |id: &EventId| server.destroyed.contains(id);
        let left: Vec<(u64, EventId)> = screen.events.iter().filter(|(_, id)| !destroyed(id)).cloned().collect();
        prop_assert!(left.ends_with(&log), "{left:?} is not {log:?}");
        let first = screen.events.first().map_or(u64::MAX, |(seq, _)| *seq);
        for (seq, id) in server.history.range(first..).filter(|(_, id)| !destroyed(id)) {
            prop_assert!(left.contains(&(*seq, id.clone())), "{id} is passed over");
        }
        for (seq, id) in &screen.events {
            prop_assert_eq!(server.history.get(seq), Some(id), "two histories in one");
        }
        for draft in server.drafts.values() {
            let shown = screen.drafts.get(&draft.re).map(|(_, _, shown)| shown.clone());
            prop_assert_eq!(shown.unwrap_or_default(), text(draft));
        }
        for (re, (attempt, _, shown)) in &screen.drafts {
            let running = server.drafts.values().any(|draft| draft.re == *re);
            let orphan = server.orphans.values().any(|orphan| orphan == re);
            let begins = |draft: &Running| draft.re == *re && (*attempt < draft.attempt || text(draft).starts_with(shown));
            let buried = server.buried.iter().any(begins);
            // Its event was trimmed before the reader came to it, or is no more.
            let unseen = |id: &EventId| server.history.range(..first).any(|(_, unseen)| unseen == id);
            let missed = |id: &EventId| unseen(id) || server.lost.contains(id) || destroyed(id);
            let failed = buried && server.failures.get(re).is_some_and(missed);
            prop_assert!(running || orphan || failed || missed(re), "a draft of {re} is left");
        }
        let at = reader.view.cursor().draft.as_ref();
        prop_assert!(at.is_none_or(|at| screen.drafts.contains_key(&at.response)), "{at:?} is over");
    }
}
