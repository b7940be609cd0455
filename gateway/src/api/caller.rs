//! Whom a request comes from, and the story it is about.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use story::StoryId;

use crate::app::App;
use crate::auth::{Identity, Role};
use crate::problem::Problem;

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
        let identity = app.identify(&parts.headers, parts.uri.query()).await?;
        Ok(Self(identity))
    }
}

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let json = axum::Json::<T>::from_request(request, app).await;
        json.map(|axum::Json(body)| Self(body))
            .map_err(|rejection| problem(&rejection))
    }
}

fn problem(rejection: &JsonRejection) -> Problem {
    let (status, words) = (rejection.status(), rejection.body_text());
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "not_json",
        _ => "bad_request",
    };
    Problem::new(status, code, words)
}
