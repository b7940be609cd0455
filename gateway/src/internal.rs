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
    if !app.revoked.is_whole() {
        let words = "what is revoked is not known yet\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    if !app.verifier.is_ready() {
        let words = "the issuer's keys are not read yet\n".to_owned();
        return (StatusCode::SERVICE_UNAVAILABLE, words);
    }
    match app.bus.ping().await {
        // Which of the clocks is wrong nobody knows here: sending everybody away would mend nothing.
        Ok(()) => match &*app.clock.borrow() {
            Some(concern) => (StatusCode::OK, format!("ready, but {concern}\n")),
            None => (StatusCode::OK, "ready\n".to_owned()),
        },
        Err(_) => {
            let words = "Redis does not answer\n".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    }
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    match app.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
