//! That somebody types, for those who read by a stream.

use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::Caller;
use crate::app::App;
use crate::auth::Role;
use crate::hub::Typist;
use crate::problem::Problem;

/// Say that you type
///
/// Whoever reads the story is told of each person at most once a second. Nothing of it is kept.
#[utoipa::path(post, path = "/v1/stories/{id}/typing", operation_id = "type", tag = "events",
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$")),
    responses((status = 204, description = "Passed on, if anybody reads")))]
pub(crate) async fn types(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let story = caller.story(&id, Role::Author)?;
    let typist = Typist::from(&caller.0);
    if !app.hub.types(&story, typist.clone()) {
        let json = serde_json::to_vec(&typist)
            .unwrap_or_else(|error| unreachable!("a person is always JSON: {error}"));
        app.bus.hint(&story, &json).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
