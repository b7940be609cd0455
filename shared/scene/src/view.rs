//! Views of a story's context: what templates are given.

use std::collections::HashSet;

use serde::Serialize;
use story::{Action, Author, Context, Event, EventId, LogEntry, Mode, Payload};

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    pub who: String,
    pub text: String,
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
        }
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
    let events = context.history.iter().map(|entry| &entry.event);
    let lines = events
        .filter(|event| seen(event))
        .filter_map(|event| line(event, context));
    budget::newest(lines.collect(), within.history)
}

/// Whether everyone who may see `turn` may see `event` too.
fn sharers(event: &Event, turn: &Event) -> bool {
    event.audience.is_none() || event.audience == turn.audience
}

/// What an action says or does: its text, or the label of the choice taken from what the person had seen last.
/// `None` when there is neither.
#[must_use]
pub fn said<'a>(action: &'a Action, id: &EventId, history: &'a [LogEntry]) -> Option<&'a str> {
    let taken = action.choice.as_deref().and_then(|choice| {
        let before = history.iter().take_while(|entry| entry.event.id != *id);
        let narrations = before.filter_map(|entry| match entry.event.payload() {
            Payload::Narration(narration) => Some(narration),
            _ => None,
        });
        let choices = &narrations.last()?.choices;
        let found = choices.iter().find(|offered| offered.id == choice);
        found.map(|offered| offered.label.as_str())
    });
    let text = Some(action.text.as_str()).filter(|text| !text.trim().is_empty());
    match action.mode {
        Mode::Choose => taken.or(text),
        _ => text,
    }
}

fn line(event: &Event, context: &Context) -> Option<Line> {
    let (who, text) = match event.payload() {
        Payload::Action(action) => {
            let player = player(&event.author, context);
            let who = match (action.mode, &action.to) {
                (Mode::Say, Some(to)) => format!("{player}, to {}", name(to)),
                _ => player,
            };
            (who, said(action, &event.id, &context.history)?)
        }
        Payload::Narration(narration) => ("Narrator".to_owned(), narration.text.as_str()),
        Payload::Dialogue(dialogue) => (plain(&dialogue.character), dialogue.text.as_str()),
        _ => return None,
    };
    let text = plain(text);
    (!text.is_empty()).then_some(Line { who, text })
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
    use story::{AuthorKind, Choice, Narration, Seq, Status};

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
        let choice = Choice {
            id: "c1".to_owned(),
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
        let said_of = |event: &Event| match event.payload() {
            Payload::Action(action) => said(action, &event.id, &log).map(str::to_owned),
            other => panic!("{other:?}"),
        };
        assert_eq!(said_of(&early).as_deref(), Some("Go in"));
        assert_eq!(said_of(&choose("a9", "c1", "")).as_deref(), Some("Wait"));
        assert_eq!(
            said_of(&choose("a9", "c7", "I sing")).as_deref(),
            Some("I sing")
        );
        assert_eq!(said_of(&choose("a9", "c7", " ")), None);
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
