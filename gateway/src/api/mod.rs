//! The HTTP API.

mod caller;
mod cors;
mod document;
mod events;
mod request;
mod rest;
mod stories;
mod tickets;
mod tokens;
mod typing;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::problem::Problem;
use crate::socket::guest;
use crate::{page, stream};

pub(crate) use caller::Caller;
pub(crate) use document::{schema, text as openapi};
pub(crate) use tokens::Signer;

pub(crate) fn router(app: App) -> Router {
    let (api, _) = routes().split_for_parts();
    api.merge(page::router())
        .fallback(async || {
            let words = "there is nothing here: stories are under /v1/stories";
            Problem::new(StatusCode::NOT_FOUND, "not_found", words)
        })
        .layer(from_fn_with_state(app.clone(), cors::shared))
        .layer(from_fn_with_state(app.entrance.clone(), rest::forgotten))
        .layer(from_fn(request::identified))
        .with_state(app)
}

/// The API. A route has its description with it, and is in the document by that.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(document::describe))
        .routes(routes!(stories::create))
        .routes(routes!(stories::read, stories::change))
        .routes(routes!(events::page, events::publish))
        .routes(routes!(stream::stream))
        .routes(routes!(typing::types))
        .routes(routes!(guest::upgrade))
        .routes(routes!(tickets::create))
        .routes(routes!(tokens::create))
        // Schemas that no route names.
        .merge(OpenApiRouter::with_openapi(document::Shared::openapi()))
}
