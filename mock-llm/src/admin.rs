//! `/admin`: what was asked, and what is to be answered from now on. Needs no key; serve it to yourself only.
//!
//! | | |
//! |---|---|
//! | `GET /admin/calls?agent=&event=&limit=` | calls by outcome, agent and event; what the limits refused |
//! | `DELETE /admin/calls` | count from zero |
//! | `POST /admin/scenario` | the YAML (or JSON) body is the scenario from now on |
//! | `DELETE /admin/scenario` | back to the one the server started with |
//! | `POST /admin/reset` | both |

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::app::App;
use crate::calls::Filter;
use crate::scenario::Scenario;
use crate::wire::Refusal;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/calls", get(calls).delete(forget))
        .route("/scenario", post(set).delete(restore))
        .route("/reset", post(reset))
}

async fn calls(State(app): State<Arc<App>>, Query(filter): Query<Filter>) -> Response {
    let calls = app.calls.report(&filter);
    let refused = app.stage().limiter.overshoot();
    Json(json!({"calls": calls, "overshoot": refused})).into_response()
}

async fn forget(State(app): State<Arc<App>>) -> StatusCode {
    app.calls.reset();
    StatusCode::NO_CONTENT
}

async fn set(State(app): State<Arc<App>>, yaml: String) -> Result<Response, Refusal> {
    let scenario: Scenario = yaml.parse().map_err(|error: crate::scenario::Invalid| {
        Refusal::bad_request(format!("scenario:{}: {error}", error.line())).param("scenario")
    })?;
    let rules = scenario.rules();
    app.set(scenario);
    Ok(Json(json!({"rules": rules})).into_response())
}

async fn restore(State(app): State<Arc<App>>) -> StatusCode {
    app.set(app.options.scenario.clone());
    StatusCode::NO_CONTENT
}

async fn reset(State(app): State<Arc<App>>) -> StatusCode {
    app.calls.reset();
    restore(State(app)).await
}
