//! A story's events: what people do, and what has happened.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use story::{Event, EventId, Seq};

use crate::api::Caller;
use crate::api::caller::Body;
use crate::app::App;
use crate::auth::Role;
use crate::outcome::status;
use crate::problem::Problem;
use crate::said::Said;

/// The events of a page, at most and when nothing is said.
const MOST: usize = 500;
const USUAL: usize = 100;

#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    id: EventId,
    /// `logged`, `held` until the moderator lets it pass, or `duplicate`: it was accepted before.
    status: &'static str,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    /// The events after this place.
    #[serde(default)]
    after: u64,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Page {
    events: Vec<Placed>,
    /// Where the next page begins, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Seq>,
}

#[derive(Debug, Serialize)]
struct Placed {
    seq: Seq,
    event: Event,
}

pub(crate) async fn publish(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(mut said): Body<Said>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let story = caller.story(&id, Role::Author)?;
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().unwrap_or_default();
        let bad = || Problem::bad("Idempotency-Key has 1 to 64 visible ASCII characters");
        said.id.get_or_insert(key.parse().map_err(|_| bad())?);
    }
    let unfit = |fault: crate::said::Fault| Problem::bad(fault.to_string());
    let event = said.event(story, &caller.0).map_err(unfit)?;
    let published = app.bus.publish(&event).await?;
    let accepted = Accepted {
        id: event.id,
        status: status(published),
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

pub(crate) async fn page(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Page>, Problem> {
    let story = caller.story(&id, Role::Reader)?;
    let limit = which.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad(format!("limit is 1 to {MOST}")));
    }
    let entries = app.bus.log(&story, Seq(which.after), limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit);
    let next = next.map(|entry| entry.seq);
    let is_for = |event: &Event| {
        let audience = event.audience.as_ref();
        audience.is_none_or(|ids| ids.contains(&caller.0.sub))
    };
    let entries = entries.into_iter().filter(|entry| is_for(&entry.event));
    let events = entries.map(|entry| Placed {
        seq: entry.seq,
        event: entry.event,
    });
    Ok(Json(Page {
        events: events.collect(),
        next,
    }))
}
