//! A story's events: what people do, and what has happened.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use bus::{Bus, Error};
use serde::{Deserialize, Serialize};
use story::{Event, EventId, LogEntry, Seq, StoryId, Traceparent};
use utoipa::{IntoParams, ToSchema};

use crate::api::Caller;
use crate::api::caller::Body;
use crate::api::document::schema;
use crate::app::App;
use crate::auth::Role;
use crate::outcome::{TOO_OFTEN, status};
use crate::problem::Problem;
use crate::said::Said;

/// The events of a page, at most and when nothing is said.
const MOST: usize = 500;
const USUAL: usize = 100;
/// What a page's events have together, about: the first that reaches it is the last.
const ENOUGH_BYTES: usize = 1_024 * 1_024;
/// Events in one read, and so beyond that bound in memory.
const READ: usize = 32;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    #[schema(schema_with = schema::event_id)]
    id: EventId,
    /// `logged`, `held` until the moderator lets it pass, or `duplicate`: it was accepted before.
    status: &'static str,
    /// Where replicas are waited for: `enough` have it; fewer do, it is `short`; or `unknown`, since nobody could wait. Where it
    /// is not `enough` it is accepted all the same, and a failover now may lose it; sent again, it is told anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    replicated: Option<&'static str>,
    /// How many have it, where it is `short`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    replicas: Option<u32>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// The events after this place.
    #[serde(default)]
    after: u64,
    /// At most so many.
    #[serde(default)]
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page {
    events: Vec<Placed>,
    /// Where the next page begins, if there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::seq, required = false)]
    next: Option<Seq>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Placed {
    #[schema(schema_with = schema::seq)]
    seq: Seq,
    #[schema(schema_with = schema::event)]
    event: Event,
}

/// Do something in a story
///
/// Sent twice under the same id, or the same `Idempotency-Key`, it counts once. A problem that leaves open whether it was
/// taken has the `id` to send it again under.
#[utoipa::path(post, path = "/v1/stories/{id}/events", operation_id = "publishEvent", tag = "events",
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$"),
        ("idempotency-key" = Option<String>, Header, description = "The action's id where its body has none", pattern = "^[ -~]{1,64}$"),
        ("traceparent" = Option<String>, Header, description = "The trace that it belongs to, as W3C writes it")),
    request_body = Said, responses((status = 202, description = "Accepted", body = Accepted)))]
pub(crate) async fn publish(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(mut said): Body<Said>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let story = caller.story(&id, Role::Author)?;
    if let Some(key) = key(&headers)?
        && *said.id.get_or_insert_with(|| key.clone()) != key
    {
        let words = "Idempotency-Key and the id in the body are two names: send one, or the same";
        return Err(Problem::bad(words));
    }
    let name = said.name();
    let unfit = |fault: crate::said::Fault| Problem::bad(fault.to_string());
    let mut event = said.event(story, &caller.0).map_err(unfit)?;
    event.trace = trace(&headers);
    let may = app.rates.publish(&event.author.id);
    may.map_err(|after| Problem::rate(TOO_OFTEN, after))?;
    let published = app.publish(&mut event).await;
    let (published, replicated) = published.map_err(|error| Problem::of_event(&error, name))?;
    let accepted = Accepted {
        id: event.id,
        status: status(published),
        replicated: replicated.word(),
        replicas: replicated.short(),
    };
    Ok((StatusCode::ACCEPTED, Json(accepted)))
}

/// The trace that the request belongs to: one that cannot be read is none, as W3C has it.
fn trace(headers: &HeaderMap) -> Option<Traceparent> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

/// What a client calls its request, if it does.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    if keys.next().is_some() {
        return Err(Problem::bad("Idempotency-Key is there twice: send one"));
    }
    let bad = || Problem::bad("Idempotency-Key has 1 to 64 visible ASCII characters");
    let key = key.to_str().map_err(|_| bad())?;
    Ok(Some(key.parse().map_err(|_| bad())?))
}

/// Read a story's history, oldest first
#[utoipa::path(get, path = "/v1/stories/{id}/events", operation_id = "readEvents", tag = "events",
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$"), Which),
    responses((status = 200, description = "A page of it", body = Page)))]
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
    if i64::try_from(which.after).is_err() {
        return Err(Problem::bad(format!("after is at most {}", i64::MAX)));
    }
    let from = Seq(which.after);
    Ok(Json(read(&app.bus, &story, (from, limit), &caller).await?))
}

async fn read(
    bus: &Bus,
    story: &StoryId,
    (mut after, mut left): (Seq, usize),
    Caller(reader): &Caller,
) -> Result<Page, Error> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    let is_for = |event: &Event| {
        let audience = event.audience.as_ref();
        audience.is_none_or(|ids| ids.contains(&reader.sub))
    };
    while left > 0 && bytes < ENOUGH_BYTES {
        let asked = left.min(READ);
        let entries = bus.log(story, after, asked).await?;
        let is_end = entries.len() < asked;
        for LogEntry { seq, event } in entries {
            if bytes >= ENOUGH_BYTES {
                let next = Some(after);
                return Ok(Page { events, next });
            }
            (after, left) = (seq, left - 1);
            if is_for(&event) {
                bytes += event.encode().len();
                events.push(Placed { seq, event });
            }
        }
        if is_end {
            return Ok(Page { events, next: None });
        }
    }
    let next = Some(after);
    Ok(Page { events, next })
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Uri};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_idempotency_key_is_taken_as_it_is_or_refused(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..70),
                "[ -~]{0,66}".prop_map(String::into_bytes),
            ]
        ) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                return Ok(());
            };
            let headers = [("idempotency-key".parse().unwrap(), value)].into_iter().collect();
            let fits = (1..=64).contains(&bytes.len()) && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
            match key(&headers) {
                Ok(Some(id)) => prop_assert!(fits && id.as_str().as_bytes() == bytes),
                Ok(None) => prop_assert!(false, "it is there"),
                Err(problem) => prop_assert!(!fits && problem.detail.contains("1 to 64")),
            }
        }

        #[test]
        fn no_query_of_a_page_breaks_it(query in "((after|limit|[a-z]{1,3})=?[0-9a-z%+-]{0,22}&?){0,4}") {
            let uri: Uri = format!("/?{query}").parse().unwrap();
            if let Ok(Query(which)) = Query::<Which>::try_from_uri(&uri)
                && !query.contains("after")
            {
                prop_assert_eq!(which.after, 0);
            }
        }
    }
}
