//! Views of a story's context: what templates are given.

use std::collections::HashSet;

use agent::Manifest;
use serde::Serialize;
use story::{Author, Context, Event, EventId, LogEntry, Mode, Payload, Seq};

use crate::text::name;
use crate::{Budget, budget, plain};

/// The voices of prompts and of models' messages, which no person can have.
const RESERVED: [&str; 5] = ["narrator", "system", "assistant", "user", "developer"];

/// The story as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    pub title: String,
    pub style: String,
    pub premise: String,
    pub summary: String,
}

/// A character that an agent can speak for.
#[derive(Debug, Clone, Serialize)]
pub struct Person {
    pub name: String,
    pub description: String,
    pub voice: String,
}

/// A piece of lore.
#[derive(Debug, Clone, Serialize)]
pub struct Fact {
    pub key: String,
    pub text: String,
}

/// Something said, done or told, by one voice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    pub who: String,
    pub text: String,
    /// Its place in the log, if it is there; for the manifest, not for prompts.
    #[serde(skip)]
    pub seq: Option<Seq>,
}

impl Setting {
    /// One of everything, to check prompts with.
    #[must_use]
    pub fn sample() -> Self {
        let [title, style, premise, summary] =
            ["Dust", "plain", "It falls.", "It fell."].map(String::from);
        Self {
            title,
            style,
            premise,
            summary,
        }
    }
}

impl Person {
    /// To check prompts with.
    #[must_use]
    pub fn sample() -> Self {
        let [name, description, voice] = ["Oto", "a fox", "short words"].map(String::from);
        Self {
            name,
            description,
            voice,
        }
    }
}

impl Fact {
    /// To check prompts with.
    #[must_use]
    pub fn sample() -> Self {
        Self {
            key: "dust".to_owned(),
            text: "It falls.".to_owned(),
        }
    }
}

impl Line {
    /// To check prompts with.
    #[must_use]
    pub fn sample() -> Self {
        Self {
            who: "Mira".to_owned(),
            text: "I look up.".to_owned(),
            seq: None,
        }
    }
}

/// What of the context these are.
#[must_use]
pub fn manifest(history: &[Line], characters: &[Person], lore: &[Fact]) -> Manifest {
    Manifest {
        history: history.iter().filter_map(|line| line.seq).collect(),
        characters: characters.iter().map(|one| one.name.clone()).collect(),
        lore: lore.iter().map(|fact| fact.key.clone()).collect(),
        joined: Vec::new(),
    }
}

#[must_use]
pub fn setting(context: &Context) -> Setting {
    Setting {
        title: plain(&context.title),
        style: plain(&context.style),
        premise: plain(&context.premise),
        summary: plain(&context.summary),
    }
}

#[must_use]
pub fn people(context: &Context) -> Vec<Person> {
    let people = context.characters.iter();
    people
        .map(|(name, character)| Person {
            name: plain(name),
            description: plain(&character.description),
            voice: plain(&character.voice),
        })
        .collect()
}

/// The lore that fits.
#[must_use]
pub fn facts(context: &Context, within: Budget) -> Vec<Fact> {
    let facts = context.lore.iter().map(|(key, text)| Fact {
        key: plain(key),
        text: plain(text),
    });
    budget::fitting(facts.collect(), within.lore)
}

/// What those who may see `turn` have seen before it, oldest first, as far as it fits. Actions that nothing answered yet are left out:
/// they are either the turn itself or wait for one of their own.
#[must_use]
pub fn history(context: &Context, turn: &Event, within: Budget) -> Vec<Line> {
    let ended: HashSet<&EventId> = context
        .history
        .iter()
        .filter_map(|entry| story::outcome(&entry.event))
        .flat_map(|(_, ended)| ended)
        .collect();
    let seen = |event: &Event| {
        let answered = !matches!(event.payload(), Payload::Action(_)) || ended.contains(&event.id);
        event.id != turn.id && answered && sharers(event, turn)
    };
    let entries = context.history.iter();
    let lines = entries
        .filter(|entry| seen(&entry.event))
        .filter_map(|entry| line(entry, context));
    budget::newest(lines.collect(), within.history)
}

/// Whether everyone who may see `turn` may see `event` too.
fn sharers(event: &Event, turn: &Event) -> bool {
    let all_of = |seen: &Vec<String>| {
        let sees = turn.audience.as_ref();
        sees.is_some_and(|people| people.iter().all(|one| seen.contains(one)))
    };
    event.audience.as_ref().is_none_or(all_of)
}

/// What an action says or does: its text, or the label of the choice taken. `None` when there is neither.
#[must_use]
pub fn said<'a>(event: &'a Event, history: &'a [LogEntry]) -> Option<&'a str> {
    let Payload::Action(action) = event.payload() else {
        return None;
    };
    let text = Some(action.text.as_str()).filter(|text| !text.trim().is_empty());
    match (action.mode, &action.choice) {
        (Mode::Choose, Some(choice)) => taken(choice, event, history).or(text),
        _ => text,
    }
}

/// The label of the choice of this id in the newest narration before `action` that offers it to all who may see the
/// action. An id of the narrator's own names its narration, so that a later one cannot change what was meant.
fn taken<'a>(choice: &str, action: &Event, history: &'a [LogEntry]) -> Option<&'a str> {
    let before = history
        .iter()
        .map(|entry| &entry.event)
        .take_while(|event| event.id != action.id);
    let offers = before.filter_map(|event| match event.payload() {
        Payload::Narration(narration) if sharers(event, action) => Some(&narration.choices),
        _ => None,
    });
    let found = offers.filter_map(|choices| choices.iter().find(|offered| offered.id == choice));
    found.last().map(|offered| offered.label.as_str())
}

fn line(entry: &LogEntry, context: &Context) -> Option<Line> {
    let event = &entry.event;
    let (who, text) = match event.payload() {
        Payload::Action(action) => {
            let player = player(&event.author, context);
            let who = match (action.mode, &action.to) {
                (Mode::Say, Some(to)) => format!("{player}, to {}", name(to)),
                _ => player,
            };
            (who, said(event, &context.history)?)
        }
        Payload::Narration(narration) => ("Narrator".to_owned(), narration.text.as_str()),
        Payload::Dialogue(dialogue) => (plain(&dialogue.character), dialogue.text.as_str()),
        _ => return None,
    };
    let text = plain(text);
    let seq = Some(entry.seq);
    (!text.is_empty()).then_some(Line { who, text, seq })
}

/// The name that prompts know a person by; it says so when it is the narrator's or a character's.
#[must_use]
pub fn player(author: &Author, context: &Context) -> String {
    let called = Some(name(&author.name)).filter(|name| !name.is_empty());
    let called = called.unwrap_or_else(|| name(&author.id));
    let mut voices = context
        .characters
        .keys()
        .map(String::as_str)
        .chain(RESERVED);
    if voices.any(|voice| letters(voice) == letters(&called)) {
        format!("{called} (a player)")
    } else {
        called
    }
}

fn letters(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
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
        let lines: Vec<String> = history(&context, &turn, Budget::default())
            .into_iter()
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
}
