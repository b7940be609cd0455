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

/// Whether new connections are welcome: not while the node goes, nor while Redis is away, nor before it can know anybody. While
/// Redis answers and takes no writes they are, and told so: people read, and what they do is refused in words.
async fn ready(State(app): State<App>) -> (StatusCode, String) {
    if app.drain.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    // First: without it the others are not known either.
    if let Some(why) = away(&app).await {
        let words = format!("Redis does not answer: {why}\n");
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
    (StatusCode::OK, well(&app))
}

/// Why Redis answers nothing. A cluster of which a part is not served answers of the rest, and every node has the same one: were
/// they all not ready, nobody would reach the stories that go on.
async fn away(app: &App) -> Option<String> {
    match app.bus.unserved() {
        Some(unserved) if unserved.is_down => Some(unserved.why),
        _ => {
            let asked = app.bus.ping().await;
            asked.err().map(|error| exit::line(&error.into()))
        }
    }
}

/// What it is ready for. Sending everybody away would mend nothing where which of the clocks is wrong is not known here, nor
/// where Redis is full: every node has the same one, and what is there can be read.
fn well(app: &App) -> String {
    let clock = app.clock.borrow().clone();
    let refusal = app.refusal.borrow().clone();
    let refusal = refusal.map(|why| format!("only to read: {why}"));
    let unserved = app.bus.unserved().map(|unserved| unserved.why);
    match [unserved, refusal, clock]
        .into_iter()
        .flatten()
        .reduce(|one, other| one + "; " + &other)
    {
        Some(concerns) => format!("ready, but {concerns}\n"),
        None => "ready\n".to_owned(),
    }
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    match app.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}
