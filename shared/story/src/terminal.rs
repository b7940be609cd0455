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
