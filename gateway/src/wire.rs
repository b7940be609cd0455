//! The messages of a socket, and the codes that it is closed with.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use story::{EventId, StoryId};

use crate::said::Said;
use crate::session::secret::Token;

/// The subprotocol of the WebSocket.
pub(crate) const SUBPROTOCOL: &str = "storyfleet.v1";
/// What a frame may have, in bytes: an action and what is around it.
pub(crate) const MAX_FRAME_BYTES: usize = story::MAX_EVENT_BYTES + 1_024;
/// The messages of one frame, a line each.
pub(crate) const MAX_MESSAGES: usize = 32;
/// What `ref` may have, in bytes.
const MAX_REFERENCE_BYTES: usize = 64;

/// What a client says. `ref` comes back with the answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Request {
    /// The first message where the handshake has no token; later it renews.
    Auth {
        token: Token,
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
    /// From a cursor on, or from the last events on.
    Join {
        story: StoryId,
        #[serde(default)]
        cursor: Option<String>,
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
    Leave {
        story: StoryId,
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
    Publish {
        story: StoryId,
        event: Box<Said>,
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
    /// Others in the story are told `typing{story, sub, name}`, at most once in 2 s; answered only where there is a `ref`.
    Typing {
        story: StoryId,
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
    Ping {
        #[serde(default, rename = "ref")]
        reference: Reference,
    },
}

/// What a client calls its message: text or a number, given back as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Option<Mark>", into = "Option<Mark>")]
pub(crate) struct Reference(Option<Mark>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a ref is a text or a number that is not negative"
)]
enum Mark {
    Number(u64),
    Text(String),
}

#[derive(Debug, thiserror::Error)]
#[error("ref has at most {MAX_REFERENCE_BYTES} bytes")]
pub(crate) struct ReferenceError;

impl TryFrom<Option<Mark>> for Reference {
    type Error = ReferenceError;

    fn try_from(mark: Option<Mark>) -> Result<Self, ReferenceError> {
        match &mark {
            Some(Mark::Text(text)) if text.len() > MAX_REFERENCE_BYTES => Err(ReferenceError),
            _ => Ok(Self(mark)),
        }
    }
}

impl From<Reference> for Option<Mark> {
    fn from(reference: Reference) -> Self {
        reference.0
    }
}

impl Reference {
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// What the session itself says; the rest are items of stories (`hub/item.rs`), and `presence{story, people[{sub, name}],
/// count}` and `typing{story, sub, name}`, which have no cursor and may be left out (`hub/aside.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(crate) enum Answer {
    /// Who the client is, from when on it may do something, and until when.
    Welcome {
        sub: String,
        name: String,
        /// Unix seconds.
        expires_at: u64,
        /// How often the server pings.
        ping_ms: u64,
    },
    Ok {
        #[serde(rename = "ref", skip_serializing_if = "Reference::is_none")]
        reference: Reference,
        /// Of what was published.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<EventId>,
        /// `logged`, `held` or `duplicate`.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
        /// `enough`, `short` or `unknown`, where replicas are waited for.
        #[serde(skip_serializing_if = "Option::is_none")]
        replicated: Option<&'static str>,
        /// How many have it, where it is `short`.
        #[serde(skip_serializing_if = "Option::is_none")]
        replicas: Option<u32>,
    },
    Err {
        #[serde(rename = "ref", skip_serializing_if = "Reference::is_none")]
        reference: Reference,
        code: Code,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
        /// Of what may have been taken: sent again under this id, it counts once.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<EventId>,
        /// The story that can be read no more, where it is not the answer to a message.
        #[serde(skip_serializing_if = "Option::is_none")]
        story: Option<StoryId>,
    },
    /// The socket is about to be closed: come back after that time.
    Bye { after_ms: u64, reason: &'static str },
}

/// The class of an error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    BadMessage,
    Auth,
    Forbidden,
    NotJoined,
    NoStory,
    BadCursor,
    TooLarge,
    TooMany,
    Rate,
    Full,
    /// Redis is away: later it may do.
    Unavailable,
}

/// Why a socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    BadMessage,
    Auth,
    /// A page of an origin that may not.
    Forbidden,
    AuthTimeout,
    /// What came is no WebSocket.
    Protocol,
    /// Text that is not UTF-8.
    Encoding,
    /// A message beyond [`MAX_FRAME_BYTES`].
    TooLarge,
    Rate,
    Restart,
    Slow,
}

impl Close {
    pub(crate) const ALL: [Self; 10] = [
        Self::BadMessage,
        Self::Auth,
        Self::Forbidden,
        Self::AuthTimeout,
        Self::Protocol,
        Self::Encoding,
        Self::TooLarge,
        Self::Rate,
        Self::Restart,
        Self::Slow,
    ];

    pub(crate) fn code(self) -> u16 {
        match self {
            Self::BadMessage => 4400,
            Self::Auth => 4401,
            Self::Forbidden => 4403,
            Self::AuthTimeout => 4408,
            Self::Protocol => 1002,
            Self::Encoding => 1007,
            Self::TooLarge => 1009,
            Self::Rate => 4429,
            Self::Restart => 1012,
            Self::Slow => 1013,
        }
    }

    /// In words, for who looks at the close frame.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::BadMessage => "messages are JSON objects, one a line and at most 32 in a frame",
            Self::Auth => "the token is not good: connect with a new one",
            Self::Forbidden => "pages of this origin may not connect",
            Self::AuthTimeout => "no token came in time",
            Self::Protocol => "that is not WebSocket (RFC 6455): use a client library for it",
            Self::Encoding => "a text message is UTF-8: encode it so",
            Self::TooLarge => "a message has at most 66560 bytes: shorten it",
            Self::Rate => "too many messages, bad tokens or connections: come back later",
            Self::Restart => "the server restarts: come back",
            Self::Slow => "too slow: come back with the cursor",
        }
    }
}

impl Answer {
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|e| unreachable!("an answer is always JSON: {e}"))
    }

    pub(crate) fn ok(reference: Reference) -> Self {
        Self::Ok {
            reference,
            id: None,
            status: None,
            replicated: None,
            replicas: None,
        }
    }

    pub(crate) fn err(reference: Reference, code: Code, message: impl Into<String>) -> Self {
        Self::Err {
            reference,
            code,
            message: message.into(),
            after_ms: None,
            id: None,
            story: None,
        }
    }

    /// An error that names what may have been taken, if anything may.
    pub(crate) fn of(mut self, event: Option<EventId>) -> Self {
        if let Self::Err { id, .. } = &mut self {
            *id = event;
        }
        self
    }

    /// An error that passes.
    pub(crate) fn later(mut self, after: Duration) -> Self {
        if let Self::Err { after_ms, .. } = &mut self {
            *after_ms = u64::try_from(after.as_millis()).ok();
        }
        self
    }
}

#[cfg(test)]
mod document;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_not_tell_its_token() {
        let said = r#"{"t":"auth","token":"s3cr3t"}"#;
        let request: Request = serde_json::from_str(said).expect("a message");
        assert!(!format!("{request:?}").contains("s3cr3t"));
    }

    #[test]
    fn the_limit_in_the_words_is_the_limit() {
        let told = Close::TooLarge.reason();
        assert!(told.contains(&MAX_FRAME_BYTES.to_string()), "{told}");
    }
}
