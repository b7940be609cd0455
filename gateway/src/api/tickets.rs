//! Tickets: a token for those who cannot send one in a header, once and for half a minute.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use serde::Serialize;

use crate::address::Client;
use crate::app::App;
use crate::problem::Problem;

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Ticket {
    ticket: String,
    expires_in_ms: u64,
}

/// Get a ticket
///
/// For whoever cannot send a header, as EventSource: good once, as `?ticket=`.
#[utoipa::path(post, path = "/v1/tickets", operation_id = "createTicket", tag = "tokens",
    responses((status = 200, description = "A ticket", body = Ticket)))]
pub(crate) async fn create(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Ticket>, Problem> {
    let made = app.ticket(&headers, query.as_deref());
    let (ticket, lives) = app.tried(client, made).await?;
    Ok(Json(Ticket {
        ticket,
        expires_in_ms: u64::try_from(lives.as_millis()).unwrap_or(u64::MAX),
    }))
}
