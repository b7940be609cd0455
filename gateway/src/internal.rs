//! The pages for operators, on a port of their own: `/metrics`, `/livez`, `/readyz`.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// Whether new connections are welcome: not while the node goes, nor while Redis is away, nor before it can know anybody.
async fn ready(State(app): State<App>) -> (StatusCode, String) {
    if app.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    // First: without it the others are not known either.
    if let Err(error) = app.bus.ping().await {
        let words = format!("Redis does not answer: {}\n", exit::line(&error.into()));
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    if !app.revoked.is_whole() {
        let words = "what is revoked is not known yet\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    if !app.verifier.is_ready() {
        let words = "the issuer's keys are not read yet\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    // Which of the clocks is wrong nobody knows here: sending everybody away would mend nothing.
    match &*app.clock.borrow() {
        Some(concern) => (StatusCode::OK, format!("ready, but {concern}\n")),
        None => (StatusCode::OK, "ready\n".to_owned()),
    }
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    match app.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
