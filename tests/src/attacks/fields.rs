//! Where people's text can stand in a prompt, and a story with text of theirs there.

use rehearsal::{action, event, narration};
use serde::Deserialize;
use story::{
    Action, Agent, Author, AuthorKind, Character, Choice, Context, Event, LogEntry, Mode,
    Narration, Payload, Seq, Speak,
};

/// Of the story's fences: an attack of the corpus knows it.
pub const MARK: &str = "k482915";

const SIBYL: &str = "Sibyl";

/// A place for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// What Mira does or says now.
    Action,
    /// Who does it.
    Name,
    /// What she chooses, of what was offered.
    Choice,
    Title,
    Style,
    Premise,
    Summary,
    /// The name of a character.
    Character,
    Description,
    Voice,
    /// Of a fact.
    Key,
    Lore,
    /// What was narrated before.
    Told,
    /// What somebody said before.
    Said,
    /// Why the narrator lets a character speak up.
    Intent,
}

/// What stands where; of [`Field::Said`] there may be more than one.
pub type Texts = Vec<(Field, String)>;

impl Field {
    pub const ALL: [Self; 15] = [
        Self::Action,
        Self::Name,
        Self::Choice,
        Self::Title,
        Self::Style,
        Self::Premise,
        Self::Summary,
        Self::Character,
        Self::Description,
        Self::Voice,
        Self::Key,
        Self::Lore,
        Self::Told,
        Self::Said,
        Self::Intent,
    ];
}

/// Harmless texts in the same places.
#[must_use]
pub fn quiet(texts: &Texts) -> Texts {
    let quiet = |(field, _): &(Field, String)| (*field, "Quiet words".to_owned());
    texts.iter().map(quiet).collect()
}

/// A turn of `agent` in a story that has these texts, and where none is given, harmless ones.
#[must_use]
pub fn turn(agent: Agent, texts: &Texts) -> agent::Turn {
    let scene = Scene { texts };
    let mut turn = rehearsal::turn(agent, scene.event(agent));
    turn.context = scene.context();
    turn
}

struct Scene<'a> {
    texts: &'a Texts,
}

impl Scene<'_> {
    fn given(&self, field: Field) -> Option<&str> {
        let mut texts = self.texts.iter();
        let found = texts.find(|(at, _)| *at == field)?;
        Some(&found.1)
    }

    fn text(&self, field: Field, usual: &str) -> String {
        self.given(field).unwrap_or(usual).to_owned()
    }

    /// Who speaks, where a character does.
    fn speaker(&self) -> String {
        self.text(Field::Character, SIBYL)
    }

    fn event(&self, agent: Agent) -> Event {
        let speaks_up = agent == Agent::Dialogue && self.given(Field::Intent).is_some();
        let payload = if speaks_up {
            self.speaking_up()
        } else {
            self.acting(agent)
        };
        let mut event = event("a9", payload);
        event.author.name = self.text(Field::Name, "Mira");
        event
    }

    fn acting(&self, agent: Agent) -> Payload {
        let text = self.text(Field::Action, "I look up.");
        let chosen = self.given(Field::Choice).map(|_| "n1.1".to_owned());
        Payload::Action(match (agent, chosen) {
            (Agent::Dialogue, _) => Action {
                to: Some(self.speaker()),
                ..action(Mode::Say, &text)
            },
            (_, Some(choice)) => Action {
                choice: Some(choice),
                ..action(Mode::Choose, "")
            },
            _ => action(Mode::Do, &text),
        })
    }

    fn speaking_up(&self) -> Payload {
        let speak = Speak {
            character: self.speaker(),
            intent: self.text(Field::Intent, "warn"),
        };
        Payload::Narration(Narration {
            speak: vec![speak],
            ..narration("The stairs creak.")
        })
    }

    fn context(&self) -> Context {
        let character = Character {
            description: self.text(Field::Description, "The keeper of the lamp, past seventy."),
            voice: self.text(Field::Voice, "Dry and patient."),
        };
        let fact = self.text(Field::Lore, "It burns oil pressed from kelp.");
        Context {
            fence: MARK.to_owned(),
            title: self.text(Field::Title, "The lamp at Hallow Point"),
            style: self.text(
                Field::Style,
                "Second person, present tense. Short paragraphs.",
            ),
            premise: self.text(
                Field::Premise,
                "Tonight the lamp of the lighthouse went out, and you stand at its door.",
            ),
            summary: self.text(Field::Summary, "You came over the rocks with a lantern."),
            characters: [(self.speaker(), character)].into(),
            lore: [(self.text(Field::Key, "the lamp"), fact)].into(),
            history: self.history(),
            ..Context::default()
        }
    }

    /// A beat with a choice, and what others did about it, with a beat for all of that.
    fn history(&self) -> Vec<LogEntry> {
        let label = self.text(Field::Choice, "Knock");
        let id = "n1.1".to_owned();
        let first = Narration {
            choices: vec![Choice { id, label }],
            ..narration(&self.text(Field::Told, "The door is shut. Wind comes from the sea."))
        };
        let mut events = vec![event("n1", Payload::Narration(first))];
        let said = self.texts.iter().filter(|(at, _)| *at == Field::Said);
        for (number, (_, text)) in said.enumerate() {
            events.push(said_by(number, text));
        }
        let mut last = event("n2", Payload::Narration(narration("The handle is cold.")));
        last.cause = events[1..].iter().map(|event| event.id.clone()).collect();
        events.push(last);
        let places = (1..).map(Seq).zip(events);
        places.map(|(seq, event)| LogEntry { seq, event }).collect()
    }
}

fn said_by(number: usize, text: &str) -> Event {
    let mut said = event(
        &format!("s{number}"),
        Payload::Action(action(Mode::Say, text)),
    );
    said.author = Author {
        kind: AuthorKind::User,
        id: format!("u{}", number + 2),
        name: ["Bo", "Cy", "Di"][number % 3].to_owned(),
    };
    said
}
