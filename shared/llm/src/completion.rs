//! What a streamed call gives: pieces of an answer, and what is known of it once it is whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Class;

/// What a call gives, in order: texts, at times a restart, and one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next part of the answer, never empty.
    Text(String),
    /// The try failed and the answer begins anew: all text so far is void.
    Restart { class: Class },
    /// The answer is whole.
    End(Completion),
}

/// What is known of a whole answer besides its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub finish: Finish,
    pub usage: Usage,
    /// What the answer cost, in millionths; none where the price or the usage is not known.
    pub cost: Option<u64>,
    /// The model that answered, by its own name for itself.
    pub model: String,
    /// Its place among the models that the client asks, from 0.
    pub place: usize,
    /// HTTP requests sent.
    pub tries: u32,
    /// From the start of the call to the first token that counts, reasoning included.
    pub first_token: Duration,
    /// From the start of the call to its end.
    pub elapsed: Duration,
}

/// Why the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model was done, or met a stop sequence.
    Stop,
    /// `max_tokens` was reached: the answer is cut.
    Length,
    /// A reason that we do not know, or none but `[DONE]` where that is accepted.
    Other,
}

/// Tokens, as the provider counts them; zeros when it told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub prompt: u32,
    /// Of `prompt`, read from the provider's cache.
    pub cached: u32,
    pub completion: u32,
    /// Of `completion`, spent on reasoning.
    pub reasoning: u32,
    /// Whether the provider told.
    pub known: bool,
}
