//! Tickets: a token for those who cannot send one in a header, once and for half a minute.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::api::Caller;
use crate::app::App;
use crate::problem::Problem;

const LIVES: Duration = Duration::from_secs(30);

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
    Caller(identity): Caller,
) -> Result<Json<Ticket>, Problem> {
    let ticket = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let holder = serde_json::to_vec(&identity)
        .unwrap_or_else(|error| unreachable!("an identity is always JSON: {error}"));
    app.bus.put_ticket(&ticket, &holder, LIVES).await?;
    Ok(Json(Ticket {
        ticket,
        expires_in_ms: u64::try_from(LIVES.as_millis()).unwrap_or(u64::MAX),
    }))
}
