//! Whom a request comes from, and the story it is about.

use axum::body::BodyDataStream;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use story::StoryId;
use tokio::time::timeout;

use crate::address::Client;
use crate::api::rest::PATIENCE;
use crate::app::App;
use crate::auth::{Identity, Role};
use crate::problem::{Problem, brief};

/// A body that is an event, and what is around it.
const MAX_BODY_BYTES: usize = story::MAX_EVENT_BYTES;

/// Somebody with a good token or ticket.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Identity);

/// A body of JSON.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl Caller {
    /// The story of that name, in which the caller has at least that role.
    pub(crate) fn story(&self, id: &str, least: Role) -> Result<StoryId, Problem> {
        let story: StoryId = id
            .parse()
            .map_err(|error| Problem::bad(format!("{error}")))?;
        if self.0.role(&story) < Some(least) {
            let does = match least {
                Role::Reader => "read",
                Role::Author => "write in",
                Role::Owner => "change",
            };
            let words = format!("your token does not let you {does} {story}");
            return Err(Problem::forbidden(words));
        }
        Ok(story)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Ok(client) = Client::from_request_parts(parts, app).await;
        let who = app.identify(&parts.headers, parts.uri.query());
        let identity = app.tried(client, who).await?;
        Ok(Self(identity))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/json") {
            let words = "the body is JSON: say so with content-type: application/json";
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                words,
            ));
        }
        let declared = request.headers().get(CONTENT_LENGTH);
        let declared = declared.and_then(|bytes| bytes.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64) {
            return Err(too_large());
        }
        let body = body(request.into_body().into_data_stream()).await?;
        if body.trim_ascii_start().first() != Some(&b'{') {
            // A list would do for serde: the fields in their order.
            return Err(Problem::bad("the body is not a JSON object"));
        }
        let body = serde_json::from_slice(&body);
        body.map(Self).map_err(|error| {
            Problem::bad(format!(
                "the body is not what is asked for: {}",
                brief(&error)
            ))
        })
    }
}

async fn body(stream: BodyDataStream) -> Result<Vec<u8>, Problem> {
    let words = "the body did not come in time";
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", words);
    timeout(PATIENCE, whole(stream)).await.map_err(late)?
}

fn too_large() -> Problem {
    let words = format!("a body has at most {MAX_BODY_BYTES} bytes: shorten it");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", words)
}

async fn whole(mut stream: BodyDataStream) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| Problem::bad(format!("the body broke off: {error}")))?;
        if body.len() + part.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use futures::stream;

    use super::*;

    /// Of parts of this many bytes; then for ever nothing, or the end.
    async fn sent(parts: &[usize], ends: bool) -> Result<usize, &'static str> {
        let parts: Vec<_> = parts
            .iter()
            .map(|len| Bytes::from(vec![b' '; *len]))
            .collect();
        let parts = stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
        let stream = match ends {
            true => Body::from_stream(parts),
            false => Body::from_stream(parts.chain(stream::pending())),
        };
        let read = body(stream.into_data_stream()).await;
        read.map(|body| body.len()).map_err(|problem| problem.code)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_size_and_its_time() {
        assert_eq!(
            sent(&[MAX_BODY_BYTES - 1, 1], true).await,
            Ok(MAX_BODY_BYTES)
        );
        assert_eq!(sent(&[MAX_BODY_BYTES, 1], true).await, Err("too_large"));
        assert_eq!(sent(&[1], false).await, Err("slow"));
        assert_eq!(sent(&[MAX_BODY_BYTES, 1], false).await, Err("too_large"));
    }
}
