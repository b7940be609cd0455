//! How an action ended. Every action ends exactly once: this is the one place that says what counts as an end.

use crate::{Decision, Event, EventId, Payload};

/// An end of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Answered,
    Blocked,
    Failed,
}

/// The outcome that `event` is, for each of the events that it names in `cause`; `None` when it ends nothing.
#[must_use]
pub fn outcome(event: &Event) -> Option<(Outcome, &[EventId])> {
    let outcome = match event.payload() {
        Payload::Narration(_) | Payload::Dialogue(_) => Outcome::Answered,
        Payload::Verdict(verdict) if verdict.decision == Decision::Block => Outcome::Blocked,
        Payload::Failed(_) => Outcome::Failed,
        _ => return None,
    };
    Some((outcome, &event.cause))
}

/// What ends when `event` comes to nothing: the event, and while it was held, so that no reader will ever see it, all
/// that it was to answer.
#[must_use]
pub fn ended_with(event: &Event, held: bool) -> Vec<EventId> {
    let answered = if held { &event.cause[..] } else { &[] };
    std::iter::once(&event.id)
        .chain(answered)
        .cloned()
        .collect()
}
