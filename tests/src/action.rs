//! What somebody does in a story.

use story::{Action, Author, AuthorKind, Event, Mode, Payload, StoryId};

/// What Mira does, or says to a character.
///
/// # Errors
/// When `id` is none.
pub fn action(story: &StoryId, id: &str, text: &str, to: Option<String>) -> anyhow::Result<Event> {
    let mira = Author {
        kind: AuthorKind::User,
        id: "mira".to_owned(),
        name: "Mira".to_owned(),
    };
    let action = Action {
        mode: if to.is_some() { Mode::Say } else { Mode::Do },
        text: text.to_owned(),
        to,
        choice: None,
        target: None,
    };
    Ok(Event::new(
        id.parse()?,
        story.clone(),
        mira,
        Payload::Action(action),
        jiff::Timestamp::now(),
    ))
}
