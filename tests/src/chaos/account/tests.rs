//! Each fault in a log of few events.

use super::*;
use story::{Author, Decision, Narration, Seq, Speak, Stage, Status, Verdict};

fn event(id: &str, kind: AuthorKind, cause: &[&str], payload: Payload) -> Event {
    let author = Author {
        kind,
        id: "narrator".to_owned(),
        name: String::new(),
    };
    let at = jiff::Timestamp::UNIX_EPOCH;
    let (id, story) = (id.parse().unwrap(), "castle".parse().unwrap());
    let mut event = Event::new(id, story, author, payload, at);
    event.cause = cause.iter().map(|id| id.parse().unwrap()).collect();
    event
}

fn action(id: &str) -> Event {
    let action = Action {
        mode: Mode::Do,
        text: String::new(),
        to: None,
        choice: None,
        target: None,
    };
    event(id, AuthorKind::User, &[], Payload::Action(action))
}

fn beat(id: &str, cause: &[&str], speakers: usize) -> Event {
    let sibyl = Speak {
        character: "Sibyl".to_owned(),
        intent: String::new(),
    };
    let narration = Narration {
        text: String::new(),
        choices: Vec::new(),
        speak: vec![sibyl; speakers],
        status: Status::Complete,
        llm: None,
    };
    event(id, AuthorKind::Agent, cause, Payload::Narration(narration))
}

fn account_of(published: &[&str], policies: Policies, events: Vec<Event>) -> Account {
    let entries = (1..).map(Seq).zip(events);
    let entries: Vec<LogEntry> = entries
        .map(|(seq, event)| LogEntry { seq, event })
        .collect();
    let published = published.iter().map(|id| id.parse().unwrap());
    let seq = entries.last().map_or(Seq(0), |entry| entry.seq);
    account(&[published.collect()], policies, (&entries, seq))
}

#[test]
fn a_log_that_ends_before_its_story_counts_is_found() {
    let account = account(&[], Policies::default(), (&[], Seq(1)));
    assert_eq!((account.lost, account.wrong.len()), (1, 1));
}

/// Lost, twice and out of order in a log of `events`, when `a` and then `b` were published.
fn found(events: Vec<Event>) -> (u64, u64, u64) {
    let account = account_of(&["a", "b"], Policies::default(), events);
    let wrong = account.lost + account.twice + account.out_of_order;
    assert_eq!(
        u64::try_from(account.wrong.len()).unwrap(),
        wrong,
        "{:?}",
        account.wrong
    );
    (account.lost, account.twice, account.out_of_order)
}

#[test]
fn what_is_in_order_is_clean() {
    let (a, b) = (action("a"), action("b"));
    assert_eq!(found(vec![a, b, beat("n", &["a", "b"], 0)]), (0, 0, 0));
}

#[test]
fn each_fault_is_found_and_named() {
    let (a, b) = (action("a"), action("b"));
    let (na, nb) = (beat("na", &["a"], 0), beat("nb", &["b"], 0));
    let silent = beat("nb", &["b"], 1);
    let again = beat("again", &["a"], 0);
    for (events, wrong) in [
        (vec![a.clone(), na.clone(), b.clone()], (1, 0, 0)),
        (vec![a.clone(), na.clone(), nb.clone()], (1, 0, 0)),
        (vec![a.clone(), na.clone(), b.clone(), silent], (1, 0, 0)),
        (
            vec![a.clone(), na.clone(), again, b.clone(), nb.clone()],
            (0, 1, 0),
        ),
        (
            vec![a.clone(), na.clone(), b.clone(), nb.clone(), action("c")],
            (0, 1, 0),
        ),
        (
            vec![a.clone(), b.clone(), nb.clone(), na.clone()],
            (0, 0, 1),
        ),
        (vec![b, a, na, nb], (0, 0, 2)),
    ] {
        assert_eq!(found(events), wrong);
    }
}

#[test]
fn what_a_story_holds_back_is_not_in_its_log() {
    let verdict = Verdict {
        target: "a".parse().unwrap(),
        stage: Stage::Input,
        decision: Decision::Block,
        categories: Vec::new(),
        tier: "rules".to_owned(),
        reason: String::new(),
    };
    let blocked = event("v", AuthorKind::Agent, &["a"], Payload::Verdict(verdict));
    let telling = |words: &str| {
        let mut told = beat("n", &["a"], 0);
        told.extra.insert("note".to_owned(), words.into());
        told
    };
    for (events, leaked) in [
        (vec![blocked.clone()], 0),
        (vec![action("a"), beat("n", &["a"], 0)], 0),
        (vec![action("a"), blocked], 1),
        (vec![action("a"), telling(secret::PEOPLES)], 1),
        (vec![action("a"), telling(secret::MODELS)], 1),
    ] {
        for (policies, leaked) in [(secret::HOLD, leaked), (secret::OFF, 0)] {
            let account = account_of(&["a"], policies, events.clone());
            assert_eq!(account.leaked, leaked, "{:?}", account.wrong);
        }
    }
}
