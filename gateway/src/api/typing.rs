//! That somebody types, for those who read by a stream.

use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::Caller;
use crate::app::App;
use crate::auth::Role;
use crate::hub::Typist;
use crate::problem::Problem;

/// Who reads the story is told at most once a second of each person, whatever is asked for here.
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
