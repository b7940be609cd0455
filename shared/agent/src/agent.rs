//! What an agent is: one trait, what it is given, what it gives back, and how it fails.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use story::{Author, AuthorKind, Context, Event, EventId, LlmReport, Payload};

use crate::{DraftSender, Manifest, Prompts, Window, exit, prompts};

/// One kind of answerer. The worker loop does the rest: leases, order, retries, commits, drains.
///
/// `handle` is dropped at any await point when the lease is lost or the process must end: keep no state that a
/// dropped call would leave half-changed.
pub trait Agent: Send + Sync + 'static {
    fn agent(&self) -> story::Agent;

    /// The event types it answers. Others in its work stream are buried as `unsupported`.
    fn takes(&self) -> &'static [&'static str];

    /// How many waiting events may join a beat.
    fn merges(&self) -> usize {
        0
    }

    /// Whether it can answer nothing without its model: no event is taken while that fails.
    fn needs_model(&self) -> bool {
        true
    }

    /// Its prompts: those of `folder`, or those that it brings with it.
    ///
    /// # Errors
    /// The first that cannot be used.
    fn prompts(&self, folder: Option<&Path>) -> Result<Prompts, prompts::Error> {
        let _ = folder;
        Ok(Prompts::default())
    }

    /// What it was made with, so that whoever replays a turn can make it again.
    fn options(&self) -> Value {
        Value::Null
    }

    /// The request that it answers the turn with, and what that holds of the story; `None` where it can tell only as it goes.
    ///
    /// # Errors
    /// When there is nothing to ask, or it does not fit into the model's window.
    fn request(&self, turn: &Turn) -> Result<Option<(llm::Request, Manifest)>, HandleError> {
        let _ = turn;
        Ok(None)
    }

    /// Equal turns, answered equally by the model, have equal effects: no clock, no chance, no state.
    fn handle(&self, turn: &Turn) -> impl Future<Output = Result<Effects, HandleError>> + Send;
}

/// One event to answer, with all that is known when its turn comes, and all that it is answered with.
#[derive(Debug)]
pub struct Turn {
    pub agent: story::Agent,
    pub event: Event,
    /// Which of the event's steps this is; for dialogue the index into `speak`.
    pub part: u32,
    /// Readers have not seen the event: it waits for the verdict of this turn.
    pub held: bool,
    pub context: Context,
    /// The events waiting next in the lane that may join the beat, oldest first, at most [`Agent::merges`].
    pub waiting: Vec<Event>,
    /// Live text for readers.
    pub draft: DraftSender,
    /// Redis's clock when the turn began.
    pub now: jiff::Timestamp,
    pub llm: llm::Client,
    /// The model's name there.
    pub model: String,
    /// What its window takes; `None` = the turn was recorded before windows were known, and nothing is bounded by one.
    pub window: Option<Window>,
    pub prompts: Prompts,
}

impl Turn {
    /// The id of the answer: the same in every try, so that the same answer is never published twice.
    #[must_use]
    pub fn response(&self) -> EventId {
        self.event.response(self.agent, self.part)
    }

    /// Waits until the tokens of its prompts can be counted at once.
    pub async fn ready(&self) {
        if let Some(window) = &self.window {
            window.ready().await;
        }
    }

    /// The answer to the event and to the first `merged` of those waiting.
    #[must_use]
    pub fn respond(&self, payload: Payload, merged: usize) -> Event {
        let answered = || std::iter::once(&self.event).chain(self.waiting.iter().take(merged));
        let mut event = Event::new(
            self.response(),
            self.event.story.clone(),
            author(self.agent),
            payload,
            self.now,
        );
        event.cause = answered().map(|event| event.id.clone()).collect();
        event.hop = answered().map(|event| event.hop).max().unwrap_or_default() + 1;
        event.trace.clone_from(&self.event.trace);
        event.audience.clone_from(&self.event.audience);
        event
    }
}

pub(crate) fn author(agent: story::Agent) -> Author {
    Author {
        kind: AuthorKind::Agent,
        id: agent.as_str().to_owned(),
        name: String::new(),
    }
}

/// What a turn changes. All of it is applied at once, or none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effects {
    pub emit: Vec<Emitted>,
    /// How many of [`Turn::waiting`] are answered by this turn too.
    pub merged: usize,
    /// A response whose text is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retract: Option<EventId>,
    /// Fields of the story's context to set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<(String, String)>,
    /// What of the context the prompts hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// The model calls that gave an answer, for whoever asks what the turn cost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<LlmReport>,
}

/// An event that a turn puts into the story.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Emitted {
    /// Made by this turn: the story's policies say whether readers see it now.
    New(Event),
    /// Held until now: readers see it, and its next steps begin.
    Passed(Event),
}

/// Why a turn failed for good: what another try could mend, the model layer has tried again.
#[derive(Debug)]
pub struct HandleError {
    /// A wire name: `rate`, `prompt` …
    pub class: &'static str,
    /// Model calls made in vain; 0 = the turn itself counts.
    pub tries: u32,
    /// Words fit for readers.
    pub notice: String,
    pub source: anyhow::Error,
}

impl HandleError {
    pub fn permanent(class: &'static str, source: impl Into<anyhow::Error>) -> Self {
        Self {
            class,
            tries: 0,
            notice: notice(class).to_owned(),
            source: source.into(),
        }
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&exit::line(&self.source))
    }
}

/// The model layer has retried what can be retried, inside the lease: what comes out is final.
impl From<llm::Error> for HandleError {
    fn from(error: llm::Error) -> Self {
        Self {
            tries: error.tries,
            ..Self::permanent(error.class.as_str(), error)
        }
    }
}

impl From<prompts::Error> for HandleError {
    fn from(error: prompts::Error) -> Self {
        Self::permanent("prompt", error)
    }
}

/// What readers are told about a class of failure.
pub(crate) fn notice(class: &str) -> &'static str {
    match class {
        "rate" => "The storyteller is asked too much at the moment. Try again in a while.",
        "ttft" | "stall" | "connect" | "deadline" => {
            "The storyteller could not be reached in time. Try again."
        }
        "truncated" | "provider" => "The storyteller lost the thread. Try again.",
        "budget" => "The storyteller has told all it may for today. The story goes on tomorrow.",
        "blocked" => "The storyteller cannot continue with that. Try something else.",
        "context" => "The story has grown too long for the storyteller.",
        "oversize" => "That was too long to be told.",
        _ => "The storyteller failed here. The story goes on without an answer.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_is_asked_too_much_was_reached() {
        let (busy, away) = (notice("rate"), notice("connect"));
        assert!(busy.contains("asked too much"), "{busy}");
        assert!(away.contains("could not be reached"), "{away}");
    }
}
