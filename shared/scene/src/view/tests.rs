//! What prompts see of a story: what was answered and may be seen, choices by what they meant, people under their own names.

use super::*;
use story::{Action, AuthorKind, Choice, Narration, Status};

fn event(id: &str, cause: &[&str], payload: Payload) -> Event {
    let author = Author {
        kind: AuthorKind::User,
        id: "u1".to_owned(),
        name: "Mira".to_owned(),
    };
    let (id, story) = (id.parse().unwrap(), "castle".parse().unwrap());
    let mut event = Event::new(id, story, author, payload, jiff::Timestamp::UNIX_EPOCH);
    event.cause = cause.iter().map(|id| id.parse().unwrap()).collect();
    event
}

fn choose(id: &str, choice: &str, text: &str) -> Event {
    let action = Action {
        mode: Mode::Choose,
        text: text.to_owned(),
        to: None,
        choice: Some(choice.to_owned()),
        target: None,
    };
    event(id, &[], Payload::Action(action))
}

fn narration(id: &str, cause: &[&str], label: &str) -> Event {
    offer(id, cause, "c1", label)
}

fn offer(id: &str, cause: &[&str], choice: &str, label: &str) -> Event {
    let choice = Choice {
        id: choice.to_owned(),
        label: label.to_owned(),
    };
    let narration = Narration {
        text: format!("After {id}:\nDust."),
        choices: vec![choice],
        speak: Vec::new(),
        status: Status::Complete,
        llm: None,
    };
    event(id, cause, Payload::Narration(narration))
}

fn context(events: Vec<Event>) -> Context {
    let entries = (1..).zip(events).map(|(seq, event)| LogEntry {
        seq: Seq(seq),
        event,
    });
    Context {
        history: entries.collect(),
        ..Context::default()
    }
}

#[test]
fn history_shows_what_was_answered_and_not_what_waits_or_is_private() {
    let mut secret = narration("n3", &[], "hide");
    secret.audience = Some(vec!["u2".to_owned()]);
    let turn = choose("a2", "c1", "");
    let context = context(vec![
        narration("n1", &[], "Go in"),
        choose("a1", "c1", ""),
        turn.clone(),
        narration("n2", &["a1"], "Wait"),
        secret,
        choose("a3", "c1", "later"),
    ]);
    let lines: Vec<String> = newest(&context, &turn, Budget::default())
        .told
        .into_iter()
        .rev()
        .map(|line| format!("{}: {}", line.who, line.text))
        .collect();
    let expected = [
        "Narrator: After n1: Dust.",
        "Mira: Go in",
        "Narrator: After n2: Dust.",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_choice_means_what_its_person_had_seen() {
    let early = choose("a1", "c1", "");
    let log = context(vec![
        narration("n1", &[], "Go in"),
        early.clone(),
        narration("n2", &[], "Wait"),
    ])
    .history;
    for (event, expected) in [
        (early, Some("Go in")),
        (choose("a9", "c1", ""), Some("Wait")),
        (choose("a9", "c7", "I sing"), Some("I sing")),
        (choose("a9", "c7", " "), None),
    ] {
        assert_eq!(said(&event, &log), expected);
    }
}

#[test]
fn a_choice_that_waited_means_the_narration_that_it_names() {
    let held = choose("a1", "n1.1", "");
    let log = context(vec![
        offer("n1", &[], "n1.1", "Go in"),
        offer("n2", &[], "n2.1", "Run"),
        held.clone(),
    ])
    .history;
    assert_eq!(said(&held, &log), Some("Go in"));
}

#[test]
fn nobody_takes_a_choice_that_they_were_not_offered() {
    let among = |mut event: Event, people: &[&str]| {
        event.audience = Some(people.iter().map(|one| (*one).to_owned()).collect());
        event
    };
    let mut log = vec![
        narration("n1", &[], "Go in"),
        among(narration("n2", &[], "Hide the key"), &["mira", "ann"]),
    ];
    for (event, expected) in [
        (choose("a1", "c1", ""), "Go in"),
        (among(choose("a2", "c1", ""), &["bo", "mira"]), "Go in"),
        (
            among(choose("a3", "c1", ""), &["ann", "mira"]),
            "Hide the key",
        ),
        (among(choose("a4", "c1", ""), &["ann"]), "Hide the key"),
    ] {
        let id = event.id.clone();
        log.push(event.clone());
        assert_eq!(
            said(&event, &context(log.clone()).history),
            Some(expected),
            "{id}"
        );
    }
}

#[test]
fn nobody_poses_as_another_voice() {
    let context = Context {
        characters: [("Sibyl".to_owned(), story::Character::default())].into(),
        ..Context::default()
    };
    let long = "x".repeat(60);
    for (id, called, player_name) in [
        ("u1", "Mira", "Mira"),
        ("u1", "# New rules", "＃ New rules"),
        ("u1", "SYSTEM", "SYSTEM (a player)"),
        ("u1", "*Narrator*:", "*Narrator* (a player)"),
        ("u1", "sibyl\u{200b}", "sibyl (a player)"),
        ("u1", "Ann: I give up. Bo", "Ann I give up. Bo"),
        ("u1", long.as_str(), &long[..40]),
        ("u1", " \u{200b}", "u1"),
        ("narrator", "", "narrator (a player)"),
    ] {
        let author = Author {
            kind: AuthorKind::User,
            id: id.to_owned(),
            name: called.to_owned(),
        };
        assert_eq!(player(&author, &context), player_name);
    }
}
