//! Answers that are paid for: told as each call ends, so that whoever must begin a turn again can give them back. A call that
//! asks the same is then answered with them, and no provider is asked.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::recorded::{Answer, Try};
use crate::{Completion, Finish, Text, Usage};

/// Calls of a turn whose answers wait to be kept.
const UNKEPT: usize = 16;

/// A whole answer of a streamed call. A wire format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// SHA-256 of the request's body, hexadecimal.
    pub request: String,
    pub text: String,
    pub finish: Finish,
    pub model: String,
    /// As the provider told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// An answer that was bought now.
#[derive(Debug)]
pub struct Bought {
    pub paid: Paid,
    /// One that was given is of no use: it answers another request.
    pub again: bool,
}

/// The answers of one turn.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    given: Arc<Mutex<VecDeque<Paid>>>,
    told: mpsc::Sender<Bought>,
}

impl Answers {
    pub(crate) fn new(given: Vec<Paid>) -> (Self, mpsc::Receiver<Bought>) {
        let (told, paid) = mpsc::channel(UNKEPT);
        let given = Arc::new(Mutex::new(given.into()));
        (Self { given, told }, paid)
    }

    /// The first answer to this request that was not taken yet.
    pub(crate) fn take(&self, request: &str) -> Option<Paid> {
        let mut given = self.given();
        let place = given.iter().position(|paid| paid.request == request)?;
        given.remove(place)
    }

    /// Whether some are left that were given.
    pub(crate) fn are_given(&self) -> bool {
        !self.given().is_empty()
    }

    fn given(&self) -> MutexGuard<'_, VecDeque<Paid>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever keeps them may be gone, or slow: then this one is not kept.
    pub(crate) fn tell(&self, paid: Paid) {
        let again = self.are_given();
        let _unkept = self.told.try_send(Bought { paid, again });
    }
}

impl Paid {
    pub(crate) fn new(request: String, text: String, completion: &Completion) -> Self {
        Self {
            request,
            text,
            finish: completion.finish,
            model: completion.model.clone(),
            usage: Some(completion.usage).filter(|usage| usage.known),
        }
    }

    /// What a provider would stream, at once.
    pub(crate) fn played(self) -> Try {
        let finish = match self.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Other => "other",
        };
        let usage = self.usage.map(|usage| {
            json!({
                "prompt_tokens": usage.prompt, "completion_tokens": usage.completion,
                "prompt_tokens_details": {"cached_tokens": usage.cached},
                "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
            })
        });
        let frames = [
            json!({"model": self.model, "choices": [{"delta": {"content": self.text}}]}),
            json!({"choices": [{"delta": {}, "finish_reason": finish}]}),
            json!({"choices": [], "usage": usage}),
        ];
        let mut body: String = frames
            .iter()
            .map(|frame| format!("data: {frame}\n\n"))
            .collect();
        body.push_str("data: [DONE]\n\n");
        let kind = ("content-type".to_owned(), "text/event-stream".to_owned());
        let answer = Answer {
            status: 200,
            headers: [kind].into(),
            pieces: vec![(0, body.len())],
            body: Text(body.into_bytes()),
            ended: true,
        };
        Try {
            answer: Some(answer),
            ..Try::default()
        }
    }
}

/// The name of a request.
pub(crate) fn name(body: &RawValue) -> String {
    let digest = Sha256::digest(body.get());
    let mut name = String::with_capacity(2 * digest.len());
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    name
}
