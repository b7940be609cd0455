//! What a person does, as a client sends it, and the event that it becomes.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use story::{Action, Author, AuthorKind, Event, EventId, Mode, Payload, StoryId};

use crate::api::schema;
use crate::auth::Identity;

/// An action without what the gateway knows itself: its author, its time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object of mode, text and more")]
pub(crate) struct Said {
    /// Chosen by the client, so that the same action sent twice counts once.
    #[serde(default)]
    #[schema(schema_with = schema::event_id, required = false)]
    pub id: Option<EventId>,
    #[schema(schema_with = schema::mode)]
    pub mode: Mode,
    #[serde(default)]
    pub text: String,
    /// The character spoken to.
    #[serde(default)]
    pub to: Option<String>,
    /// The id of the choice taken.
    #[serde(default)]
    pub choice: Option<String>,
    /// The event meant.
    #[serde(default)]
    #[schema(schema_with = schema::event_id, required = false)]
    pub target: Option<EventId>,
    /// Who may see it and its answers; everyone when it is left out.
    #[serde(default)]
    #[schema(schema_with = schema::audience, required = false)]
    pub audience: Option<Vec<String>>,
}

/// Why it is no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the action says nothing: text must have a visible character")]
    Nothing,
    #[error("to is for words that are said: use the mode say, or leave it out")]
    To,
    #[error("the mode choose needs the id of a choice")]
    Choice,
    #[error("this mode needs the id of the event that is meant, as target")]
    Target,
}

impl Said {
    /// What the client calls it, or else what it is called from now on: sent again under this it is the same.
    pub(crate) fn name(&mut self) -> EventId {
        let new_id = || {
            let now = jiff::Timestamp::now().as_millisecond().max(0);
            EventId::new(now.cast_unsigned(), rand::random())
        };
        self.id.get_or_insert_with(new_id).clone()
    }

    /// The event of what `person` does now.
    ///
    /// # Errors
    /// When the fields do not fit the mode.
    pub(crate) fn event(mut self, story: StoryId, person: &Identity) -> Result<Event, Fault> {
        self.check()?;
        let now = jiff::Timestamp::now();
        let id = own(&self.name(), person);
        let author = Author {
            kind: AuthorKind::User,
            id: person.sub.clone(),
            name: person.name.clone(),
        };
        let action = Action {
            mode: self.mode,
            text: self.text,
            to: self.to,
            choice: self.choice,
            target: self.target,
        };
        let mut event = Event::new(id, story, author, Payload::Action(action), now);
        event.audience = self.audience;
        Ok(event)
    }

    fn check(&self) -> Result<(), Fault> {
        match self.mode {
            _ if self.to.is_some() && self.mode != Mode::Say => Err(Fault::To),
            Mode::Do | Mode::Say | Mode::Story if !self.text.contains(story::shows) => {
                Err(Fault::Nothing)
            }
            Mode::Choose if self.choice.is_none() => Err(Fault::Choice),
            Mode::Regenerate | Mode::Undo if self.target.is_none() => Err(Fault::Target),
            _ => Ok(()),
        }
    }
}

/// The id that a person chose, as nobody else's: it can be taken for no other person's, and for no answer's. The
/// page knows the rule (`eventId` in web/transport.js).
pub(crate) fn own(chosen: &EventId, person: &Identity) -> EventId {
    let digest = Sha256::new()
        .chain_update(person.sub.as_bytes())
        .chain_update([0])
        .chain_update(chosen.as_str())
        .finalize();
    let letters: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let id = format!("c-{letters}");
    id.parse()
        .unwrap_or_else(|error| unreachable!("letters and digits are an id: {error}"))
}
