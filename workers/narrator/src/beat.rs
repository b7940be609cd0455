//! One beat: the actions that it answers, and the prompts' view of it.

use agent::{HandleError, Turn};
use scene::{Budget, Fact, Fence, Line, Parts, Person, Setting};
use serde::Serialize;
use story::{Action, AuthorKind, Context, Event, Mode, Payload};

/// Most actions that one beat answers, the first included.
pub(crate) const MOST: usize = 8;

/// What system.md and turn.md are given.
#[derive(Debug, Serialize)]
pub(crate) struct Beat {
    /// The mark around each text.
    pub(crate) fence: String,
    pub(crate) story: Setting,
    pub(crate) characters: Vec<Person>,
    pub(crate) lore: Vec<Fact>,
    pub(crate) recalled: Vec<Fact>,
    pub(crate) history: Vec<Line>,
    /// At least one.
    pub(crate) actions: Vec<Deed>,
}

/// An action in a sentence: who, what they do, and with which words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Deed {
    pub(crate) who: String,
    pub(crate) verb: &'static str,
    pub(crate) text: String,
}

impl Beat {
    pub(crate) fn new(parts: Parts, actions: Vec<Deed>) -> Self {
        Self {
            fence: parts.fence,
            story: parts.story,
            characters: parts.characters,
            lore: parts.lore,
            recalled: parts.recalled,
            history: parts.history,
            actions,
        }
    }

    /// One of everything, to check the prompts with.
    pub(crate) fn sample() -> Self {
        Self {
            fence: "k482915".to_owned(),
            story: Setting::sample(),
            characters: vec![Person::sample()],
            lore: vec![Fact::sample()],
            recalled: vec![Fact::sample()],
            history: vec![Line::sample()],
            actions: vec![Deed {
                who: "Mira".to_owned(),
                verb: "does",
                text: "I look up.".to_owned(),
            }],
        }
    }

    /// How many waiting actions have joined.
    #[must_use]
    pub(crate) fn merged(&self) -> usize {
        self.actions.len() - 1
    }
}

/// The action of `turn` and those waiting behind it that can join: the first ones up to one that the narrator cannot
/// answer, that other people may see, or that makes them longer than the history may be.
///
/// # Errors
/// When the action itself cannot be answered.
pub(crate) fn actions(turn: &Turn, within: Budget) -> Result<Vec<Deed>, HandleError> {
    let context = &turn.context;
    let lead = deed(&turn.event, context).map_err(refused)?;
    let waiting = turn.waiting.iter().take(MOST - 1);
    let joining = waiting
        .take_while(|event| event.audience == turn.event.audience)
        .map_while(|event| deed(event, context).ok());
    let mut room = within.history;
    let joining = joining.take_while(|deed| {
        let left = room.checked_sub(deed.text.chars().count());
        room = left.unwrap_or(room);
        left.is_some()
    });
    Ok(std::iter::once(lead).chain(joining).collect())
}

/// Why the narrator does not answer an event.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the narrator answers what people do, not a {0}")]
    NoAction(String),
    #[error("this version does not {0}")]
    Mode(&'static str),
    #[error("the action has no text, and no choice that was offered")]
    Empty,
}

fn deed(event: &Event, context: &Context) -> Result<Deed, Refusal> {
    let action = match event.payload() {
        Payload::Action(action) if event.author.kind == AuthorKind::User => action,
        _ => return Err(Refusal::NoAction(event.kind().to_owned())),
    };
    let verb = verb(action)?;
    let said = scene::said(event, &context.history);
    let text = said.map(|text| Fence::of(context).plain(text));
    Ok(Deed {
        who: scene::player(&event.author, context),
        verb,
        text: text.filter(|text| !text.is_empty()).ok_or(Refusal::Empty)?,
    })
}

fn verb(action: &Action) -> Result<&'static str, Refusal> {
    match action.mode {
        Mode::Do => Ok("does"),
        Mode::Say => Ok("says"),
        Mode::Story => Ok("adds to the story"),
        Mode::Choose => Ok("chooses"),
        Mode::Regenerate => Err(Refusal::Mode("regenerate")),
        Mode::Undo => Err(Refusal::Mode("undo")),
    }
}

fn refused(refusal: Refusal) -> HandleError {
    let notice = match &refusal {
        Refusal::NoAction(_) => "That is not something the storyteller answers.",
        Refusal::Mode("undo") => "The storyteller cannot undo yet. Write what happens instead.",
        Refusal::Mode(_) => "The storyteller cannot tell it anew yet. Write what happens instead.",
        Refusal::Empty => {
            "There was nothing to act on. Write what you do, or pick one of the choices."
        }
    };
    HandleError {
        notice: notice.to_owned(),
        ..HandleError::permanent("unsupported", refusal)
    }
}
