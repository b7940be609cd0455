//! Errors of the HTTP API: RFC 9457 problem+json.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bus::Error;
use serde::Serialize;
use story::EventId;

use crate::api::schema;
use crate::app::Unauthorized;
use crate::auth::{Refusal, URL_PAUSE};
use crate::hub::Unwatched;
use crate::quota;

/// A store that is full is not made larger within moments.
const FULL: Duration = Duration::from_secs(5);

/// Of another's words, in characters.
const MOST_WORDS: usize = 200;

/// What went wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Problem {
    #[serde(serialize_with = "number")]
    #[schema(value_type = u16)]
    pub(crate) status: StatusCode,
    /// The class, for programs.
    pub(crate) code: &'static str,
    pub(crate) title: &'static str,
    /// For people.
    pub(crate) detail: String,
    /// When to try again, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) after_ms: Option<u64>,
    /// Of what may have been taken: sent again under this id, it counts once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::event_id, required = false)]
    // In a box: few have one, and all are moved about.
    pub(crate) id: Option<Box<EventId>>,
    /// As in `x-request-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            title: status.canonical_reason().unwrap_or("Error"),
            detail: detail.into(),
            after_ms: None,
            id: None,
            request_id: None,
        }
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    pub(crate) fn rate(detail: impl Into<String>, after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate", detail).later(after)
    }

    /// One connection too many.
    pub(crate) fn crowd(words: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", words).later(quota::AFTER)
    }

    /// Of what somebody wrote and calls `name`.
    pub(crate) fn of_event(error: &Error, name: EventId) -> Self {
        let problem = Self::from(error);
        if !matches!(error, Error::Unheard(_)) {
            return problem;
        }
        let detail = format!(
            "the story's store was lost before it replied, so that this may have been taken: send it again with the id {name}, and it counts once"
        );
        Self {
            detail,
            id: Some(Box::new(name)),
            ..problem
        }
    }

    pub(crate) fn later(self, after: Duration) -> Self {
        let after_ms = u64::try_from(after.as_millis()).ok();
        Self { after_ms, ..self }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let says = error.to_string();
        match error {
            Error::NoStory(_) => Self::new(StatusCode::NOT_FOUND, "no_story", says),
            Error::StoryExists(_) => Self::new(StatusCode::CONFLICT, "story_exists", says),
            Error::TooLarge(_) | Error::Oversized { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", says)
            }
            Error::NotPublishable => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "not_publishable", says)
            }
            Error::LaneFull(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "full", says).later(Duration::from_secs(1))
            }
            // Of both: where the store is and what is wrong with it is nobody's affair but ours.
            error if error.refuses_writes() => {
                tracing::warn!(%error, "a request was refused");
                let says = "the story's store takes nothing new now, and nothing of this was done: try again later";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", says).later(FULL)
            }
            error => {
                tracing::warn!(%error, "a request failed");
                let says = "the story's store cannot be reached now: try again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", says)
                    .later(Duration::from_secs(1))
            }
        }
    }
}

impl From<&Unwatched> for Problem {
    fn from(error: &Unwatched) -> Self {
        match error {
            Unwatched::Story(error) => Self::from(&**error),
            Unwatched::Full | Unwatched::Late => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                error.to_string(),
            )
            .later(Duration::from_secs(5)),
        }
    }
}

impl From<Unauthorized> for Problem {
    fn from(error: Unauthorized) -> Self {
        match error {
            Unauthorized::Redis(error) => error.into(),
            Unauthorized::NotHere(words) => Self::forbidden(words),
            Unauthorized::Rate { after, .. } => Self::rate(error.to_string(), after),
            error if error.is_temporary() => {
                let after = match &error {
                    // Before, nobody asks for the keys again.
                    Unauthorized::Refused(Refusal::Unavailable) => URL_PAUSE,
                    _ => Duration::from_secs(1),
                };
                let says = error.to_string();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", says).later(after)
            }
            error => Self::new(StatusCode::UNAUTHORIZED, "auth", error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, after_ms) = (self.status, self.after_ms);
        let mut response = (status, Json(&self)).into_response();
        // For whoever knows the request's id.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Some(after) = after_ms {
            let seconds = after.div_ceil(1_000).max(1);
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// What is wrong with a client's JSON. The words may repeat all that it sent.
pub(crate) fn brief(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match words.char_indices().nth(MOST_WORDS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn number<S: serde::Serializer>(status: &StatusCode, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use story::Mode;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_all_that_was_sent() {
        let wrong = |text: &str| brief(&serde_json::from_str::<Mode>(text).expect_err("wrong"));
        assert!(wrong("\"dance\"").contains("`dance`, expected"));
        for letter in ["x", "é"] {
            let long = wrong(&format!("\"{}\"", letter.repeat(60_000)));
            assert_eq!(long.chars().count(), MOST_WORDS + 1, "{long}");
        }
    }
}
