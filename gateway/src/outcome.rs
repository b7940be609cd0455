//! What comes of a client's messages, in the words of the wire.

use std::time::Duration;

use bus::{Error, Published, Replicated};
use story::EventId;
use tungstenite::error::ProtocolError;

use crate::app::Unauthorized;
use crate::hub::Unwatched;
use crate::problem::Problem;
use crate::wire::{Answer, Close, Code, Reference};

/// To who writes more than they may.
pub(crate) const TOO_OFTEN: &str = "you write too often: send it again later";

/// What the client has done wrong; nothing when the connection is gone.
pub(crate) fn broken(error: axum::Error) -> Option<Close> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    match *error {
        tungstenite::Error::Capacity(_) => Some(Close::TooLarge),
        tungstenite::Error::Utf8(_) => Some(Close::Encoding),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(Close::Protocol),
        _ => None,
    }
}

/// What somebody is told who is not let in, and how a socket without anybody is closed.
pub(crate) fn refused(reference: Reference, why: Unauthorized) -> (Answer, Close) {
    let (code, close) = match &why {
        Unauthorized::Rate { .. } => (Code::Rate, Close::Rate),
        why if why.is_temporary() => (Code::Unavailable, Close::Restart),
        _ => (Code::Auth, Close::Auth),
    };
    (told(reference, code, why.into()), close)
}

/// The answer to what was published under this id, and what the client may call it.
pub(crate) fn answer(
    reference: Reference,
    (id, name): (EventId, EventId),
    published: Result<(Published, Replicated), Error>,
) -> Answer {
    match published {
        Ok((published, replicated)) => Answer::Ok {
            reference,
            id: Some(id),
            status: Some(status(published)),
            replicated: replicated.word(),
            replicas: replicated.short(),
        },
        Err(error) => {
            let problem = Problem::of_event(&error, name);
            told(reference, code(problem.code), problem)
        }
    }
}

/// The answer to what is one too many.
pub(crate) fn too_often(reference: Reference, words: &str, after: Duration) -> Answer {
    Answer::err(reference, Code::Rate, words).later(after)
}

pub(crate) fn status(published: Published) -> &'static str {
    match published {
        Published::Logged(_) => "logged",
        Published::Held => "held",
        Published::Duplicate => "duplicate",
    }
}

/// The answer to who wants to be in a story.
pub(crate) fn answer_to_join(
    reference: Reference,
    joined: Result<(), Unwatched>,
) -> Result<Answer, Answer> {
    match joined {
        Ok(()) => Ok(Answer::ok(reference)),
        Err(error) => {
            let problem = Problem::from(&error);
            Err(told(reference, code(problem.code), problem))
        }
    }
}

fn told(reference: Reference, code: Code, problem: Problem) -> Answer {
    let answer = Answer::err(reference, code, problem.detail).of(problem.id.map(|id| *id));
    match problem.after_ms {
        Some(ms) => answer.later(Duration::from_millis(ms)),
        None => answer,
    }
}

fn code(class: &str) -> Code {
    match class {
        "no_story" => Code::NoStory,
        "too_large" => Code::TooLarge,
        "full" => Code::Full,
        "not_publishable" => Code::BadMessage,
        _ => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_join_now_is_told_the_time_that_a_stream_is_told() {
        for error in [Unwatched::Full, Unwatched::Late] {
            let stream = Problem::from(&error).after_ms;
            let socket = answer_to_join(Reference::default(), Err(error));
            assert!(stream.is_some());
            assert!(matches!(socket, Err(Answer::Err { after_ms, .. }) if after_ms == stream));
        }
    }
}
