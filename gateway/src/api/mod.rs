//! The HTTP API.

mod caller;
mod cors;
mod events;
mod request;
mod stories;
mod tickets;
mod tokens;
mod typing;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

use crate::app::App;
use crate::{page, socket, stream};

pub(crate) use caller::Caller;
pub(crate) use tokens::Signer;

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/stories", post(stories::create))
        .route(
            "/v1/stories/{id}",
            get(stories::read).patch(stories::change),
        )
        .route(
            "/v1/stories/{id}/events",
            get(events::page).post(events::publish),
        )
        .route("/v1/stories/{id}/stream", get(stream::stream))
        .route("/v1/stories/{id}/typing", post(typing::types))
        .route("/v1/ws", get(socket::upgrade))
        .route("/v1/tickets", post(tickets::create))
        .route("/v1/tokens", post(tokens::create))
        .merge(page::router())
        .fallback(async || {
            let words = "there is nothing here: stories are under /v1/stories";
            crate::problem::Problem::new(axum::http::StatusCode::NOT_FOUND, "not_found", words)
        })
        .layer(from_fn_with_state(app.clone(), cors::shared))
        .layer(from_fn(request::identified))
        .with_state(app)
}
