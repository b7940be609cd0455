//! Whose turn it is to speak, and what the prompts see of it.

use agent::{HandleError, Turn};
use scene::{Fact, Fence, Line, Parts, Person, Setting};
use serde::Serialize;
use story::{AuthorKind, Context, Mode, Payload, Speak};

/// The most stop sequences that every provider takes.
const STOPS: usize = 4;

/// Most characters of a name in a stop sequence: a provider refuses the whole call for one that is too long.
const STOP: usize = 40;

/// What system.md and turn.md are given.
#[derive(Debug, Serialize)]
pub(crate) struct Cue {
    /// The mark around each text.
    pub(crate) fence: String,
    pub(crate) character: Person,
    pub(crate) story: Setting,
    pub(crate) lore: Vec<Fact>,
    pub(crate) recalled: Vec<Fact>,
    pub(crate) history: Vec<Line>,
    /// The words of a person to the character, if the turn is an answer to such.
    pub(crate) spoken_to: Option<Line>,
    /// Why the narrator lets the character speak up; may be empty.
    pub(crate) intent: String,
    /// The character's name as the story has it.
    #[serde(skip)]
    pub(crate) name: String,
    /// The names of everyone else in the story, those who spoke last first.
    #[serde(skip)]
    pub(crate) others: Vec<String>,
}

/// Who is to speak, and why.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    character: Person,
    /// As the story has it.
    name: String,
    spoken_to: Option<Line>,
    intent: String,
}

impl Call {
    /// # Errors
    /// When the event lets nobody speak, or someone whom the story does not have.
    pub(crate) fn of(turn: &Turn) -> Result<Self, HandleError> {
        let (name, spoken_to, intent) = called(turn).ok_or_else(|| not_called(turn))?;
        let Some(character) = turn.context.characters.get(name) else {
            return Err(HandleError {
                notice: "Nobody of that name is in this story.".to_owned(),
                ..HandleError::permanent("no_character", NoCharacter)
            });
        };
        let fence = Fence::of(&turn.context);
        Ok(Self {
            character: scene::person(name, character, fence),
            name: name.to_owned(),
            spoken_to,
            intent: fence.plain(intent),
        })
    }

    /// What is said to them, or why they speak up.
    pub(crate) fn words(&self) -> Vec<&str> {
        let said = self.spoken_to.iter().map(|line| line.text.as_str());
        said.chain([self.intent.as_str()]).collect()
    }
}

impl Cue {
    pub(crate) fn new(call: Call, parts: Parts) -> Self {
        Self {
            fence: parts.fence,
            character: call.character,
            story: parts.story,
            lore: parts.lore,
            recalled: parts.recalled,
            history: parts.history,
            spoken_to: call.spoken_to,
            intent: call.intent,
            name: call.name,
            others: Vec::new(),
        }
    }

    /// Ends the answer where somebody else would begin to speak.
    #[must_use]
    pub(crate) fn stops(&self) -> Vec<String> {
        let short = |name: &&String| name.chars().count() <= STOP;
        let others = self.others.iter().filter(short).take(STOPS);
        others.map(|name| format!("\n{name}:")).collect()
    }

    /// One of everything, to check the prompts with.
    pub(crate) fn sample() -> Self {
        Self {
            fence: "k482915".to_owned(),
            character: Person::sample(),
            story: Setting::sample(),
            lore: vec![Fact::sample()],
            recalled: vec![Fact::sample()],
            history: vec![Line::sample()],
            spoken_to: Some(Line::sample()),
            intent: "warn".to_owned(),
            name: String::new(),
            others: Vec::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the story has no such character")]
struct NoCharacter;

#[derive(Debug, thiserror::Error)]
#[error("the {kind} lets nobody speak at step {part}")]
struct NotCalled {
    kind: String,
    part: u32,
}

/// Who is to speak, whom they answer, and why.
fn called(turn: &Turn) -> Option<(&str, Option<Line>, &str)> {
    match turn.event.payload() {
        Payload::Action(action)
            if turn.event.author.kind == AuthorKind::User && action.mode == Mode::Say =>
        {
            let line = Line {
                who: scene::player(&turn.event.author, &turn.context),
                text: Fence::of(&turn.context).plain(&action.text),
                seq: None,
            };
            Some((action.to.as_deref()?, Some(line), ""))
        }
        Payload::Narration(narration) => {
            let part = usize::try_from(turn.part).ok()?;
            let Speak { character, intent } = narration.speak.get(part)?;
            Some((character, None, intent))
        }
        _ => None,
    }
}

fn not_called(turn: &Turn) -> HandleError {
    let kind = turn.event.kind().to_owned();
    HandleError::permanent(
        "unsupported",
        NotCalled {
            kind,
            part: turn.part,
        },
    )
}

/// The names of everyone else who may speak, those who spoke last first.
pub(crate) fn others(cue: &Cue, context: &Context) -> Vec<String> {
    let fence = Fence::of(context);
    let name = fence.plain(&cue.name);
    let voices = cue.spoken_to.iter().chain(cue.history.iter().rev());
    // `Mira, to Sibyl` speaks as Mira.
    let speakers = voices.map(|line| {
        let (who, _) = line.who.split_once(", to ").unwrap_or((&line.who, ""));
        who.to_owned()
    });
    let people = context.characters.keys().map(|name| fence.plain(name));
    let mut others: Vec<String> = Vec::new();
    for other in speakers.chain(people) {
        if other != name && !others.contains(&other) {
            others.push(other);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_gets_few_and_short_stop_sequences() {
        let names = ["Mira", &"é".repeat(41), &"é".repeat(40), "Bo", "Cy", "Di"];
        let others = names.map(str::to_owned).to_vec();
        let stops = Cue {
            others,
            ..Cue::sample()
        }
        .stops();
        let expected = ["Mira", &"é".repeat(40), "Bo", "Cy"].map(|name| format!("\n{name}:"));
        assert_eq!(stops, expected);
    }
}
