//! Views of a story's context: what templates are given.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use agent::Manifest;
use serde::Serialize;
use story::{Author, Character, Context, Event, EventId, LogEntry, Mode, Payload, Rating, Seq};

use crate::{Budget, Fence, Parts, budget};

/// The voices of prompts and of models' messages, which no person can have.
const RESERVED: [&str; 5] = ["narrator", "system", "assistant", "user", "developer"];

/// The story as a whole.
#[derive(Debug, Clone, Serialize)]
pub struct Setting {
    pub title: String,
    pub style: String,
    pub premise: String,
    pub summary: String,
    /// Whom it is for.
    pub rating: Rating,
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
            rating: Rating::Teen,
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
pub(crate) fn manifest(parts: &Parts) -> Manifest {
    let lore = parts.lore.iter().chain(&parts.recalled);
    let people = parts.characters.iter();
    Manifest {
        history: parts.history.iter().filter_map(|line| line.seq).collect(),
        characters: people.map(|one| one.name.clone()).collect(),
        lore: lore.map(|fact| fact.key.clone()).collect(),
        ..Manifest::default()
    }
}

pub(crate) fn setting(context: &Context) -> Setting {
    let fence = Fence::of(context);
    Setting {
        title: fence.plain(&context.title),
        style: fence.plain(&context.style),
        premise: fence.plain(&context.premise),
        summary: fence.plain(&context.summary),
        rating: context.content.rating,
    }
}

#[must_use]
pub fn people(context: &Context) -> Vec<Person> {
    let people = context.characters.iter();
    people
        .map(|(name, character)| person(name, character, Fence::of(context)))
        .collect()
}

/// A character as prompts show it.
#[must_use]
pub fn person(name: &str, character: &Character, fence: Fence<'_>) -> Person {
    Person {
        name: fence.plain(name),
        description: fence.plain(&character.description),
        voice: fence.plain(&character.voice),
    }
}

/// The end of a story.
pub(crate) struct Newest {
    /// The newest first.
    pub(crate) told: Vec<Line>,
    /// The oldest one is cut to its end.
    pub(crate) cut: bool,
    /// How many more there are.
    pub(crate) left: usize,
}

/// The lore that fits, and what does not.
pub(crate) fn facts(context: &Context, within: Budget) -> (Vec<Fact>, Vec<Fact>) {
    let fence = Fence::of(context);
    let facts = context.lore.iter().map(|(key, text)| Fact {
        key: fence.plain(key),
        text: fence.plain(text),
    });
    budget::fitting(facts, within.lore)
}

/// What those who may see `turn` have seen before it, as far as it fits. Actions that nothing answered yet are left out:
/// they are either the turn itself or wait for one of their own.
pub(crate) fn newest(context: &Context, turn: &Event, within: Budget) -> Newest {
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
    let seen = || {
        let entries = context.history.iter().rev();
        entries.filter(|entry| seen(&entry.event))
    };
    let lines = seen().filter_map(|entry| line(entry, context));
    let (told, cut) = budget::newest(lines, within.history);
    let oldest = told.last().and_then(|line| line.seq);
    let is_older = |entry: &&LogEntry| oldest.is_none_or(|oldest| entry.seq < oldest);
    let left = seen()
        .filter(is_older)
        .filter(|entry| is_told(&entry.event));
    Newest {
        left: left.count(),
        told,
        cut,
    }
}

/// Whether it is of a kind that history tells.
fn is_told(event: &Event) -> bool {
    matches!(
        event.payload(),
        Payload::Action(_) | Payload::Narration(_) | Payload::Dialogue(_)
    )
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
    let (event, fence) = (&entry.event, Fence::of(context));
    let (who, text) = match event.payload() {
        Payload::Action(action) => {
            let player = player(&event.author, context);
            let who = match (action.mode, &action.to) {
                (Mode::Say, Some(to)) => format!("{player}, to {}", fence.name(to)),
                _ => player,
            };
            (who, said(event, &context.history)?)
        }
        Payload::Narration(narration) => ("Narrator".to_owned(), narration.text.as_str()),
        Payload::Dialogue(dialogue) => (fence.plain(&dialogue.character), dialogue.text.as_str()),
        _ => return None,
    };
    let text = fence.plain(text);
    let seq = Some(entry.seq);
    (!text.is_empty()).then_some(Line { who, text, seq })
}

/// The name that prompts know a person by; it says so when it is the narrator's or a character's.
#[must_use]
pub fn player(author: &Author, context: &Context) -> String {
    let fence = Fence::of(context);
    let called = Some(fence.name(&author.name)).filter(|name| !name.is_empty());
    let called = called.unwrap_or_else(|| fence.name(&author.id));
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
