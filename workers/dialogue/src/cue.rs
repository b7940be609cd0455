//! Whose turn it is to speak, and what the prompts see of it.

use agent::{HandleError, Manifest, Turn};
use scene::{Budget, Fact, Line, Person, Setting, plain};
use serde::Serialize;
use story::{AuthorKind, Mode, Payload, Speak};

/// The most stop sequences that every provider takes.
const STOPS: usize = 4;

/// Most characters of a name in a stop sequence: a provider refuses the whole call for one that is too long.
const STOP: usize = 40;

/// What system.md and turn.md are given.
#[derive(Debug, Serialize)]
pub(crate) struct Cue {
    pub(crate) character: Person,
    pub(crate) story: Setting,
    pub(crate) lore: Vec<Fact>,
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

impl Cue {
    /// # Errors
    /// When the event lets nobody speak, or someone whom the story does not have.
    pub(crate) fn new(turn: &Turn, within: Budget) -> Result<Self, HandleError> {
        let context = &turn.context;
        let (name, spoken_to, intent) = called(turn).ok_or_else(|| not_called(turn))?;
        let Some(character) = context.characters.get(name) else {
            return Err(HandleError {
                notice: "Nobody of that name is in this story.".to_owned(),
                ..HandleError::permanent("no_character", NoCharacter)
            });
        };
        let history = scene::history(context, &turn.event, within);
        let others = others(name, spoken_to.as_ref(), &history, scene::people(context));
        Ok(Self {
            character: Person {
                name: plain(name),
                description: plain(&character.description),
                voice: plain(&character.voice),
            },
            story: scene::setting(context),
            lore: scene::facts(context, within),
            history,
            spoken_to,
            intent: plain(intent),
            name: name.to_owned(),
            others,
        })
    }

    /// What of the context it holds.
    #[must_use]
    pub(crate) fn manifest(&self) -> Manifest {
        scene::manifest(
            &self.history,
            std::slice::from_ref(&self.character),
            &self.lore,
        )
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
            character: Person::sample(),
            story: Setting::sample(),
            lore: vec![Fact::sample()],
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
                text: plain(&action.text),
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

fn others(
    name: &str,
    spoken_to: Option<&Line>,
    history: &[Line],
    people: Vec<Person>,
) -> Vec<String> {
    let name = plain(name);
    let voices = spoken_to.into_iter().chain(history.iter().rev());
    // `Mira, to Sibyl` speaks as Mira.
    let speakers = voices.map(|line| {
        line.who
            .split(", to ")
            .next()
            .unwrap_or(&line.who)
            .to_owned()
    });
    let mut others: Vec<String> = Vec::new();
    for other in speakers.chain(people.into_iter().map(|person| person.name)) {
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
