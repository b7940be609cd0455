//! A story over server-sent events: what a browser's own EventSource reads, and resumes with `Last-Event-ID`. It never
//! tries again after a status other than 200, so errors are told in band.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::stream;
use serde::Deserialize;
use serde_json::json;
use story::{Cursor, Seq, StoryId, Tag};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::app::{App, Unauthorized, joins_again_after, now};
use crate::auth::{Grants, Identity, Refusal};
use crate::entrance::{Entered, Visitor};
use crate::hub::{Delivery, Feed, Membership, Why, reader};
use crate::metrics::Connected;
use crate::problem::Problem;
use crate::quota::{OF_PERSON, Place};
use crate::wire::Close;

/// Items that wait to be written.
const QUEUE: usize = 64;
/// Items that are written together.
const TOGETHER: usize = 32;
/// The same in bytes, about.
const TOGETHER_BYTES: usize = 64 * 1_024;
/// How soon a browser comes back, in ms.
const RETRY: u64 = 1_000;
/// The same, where only a person can mend what is wrong.
const RETRY_ERROR: u64 = 30_000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// Where to go on; `Last-Event-ID` counts more.
    #[serde(default)]
    cursor: Option<String>,
}

/// Read a story as it is written
///
/// Server-sent events: `event` is the type, `id` the cursor, `data` JSON as in docs/asyncapi.yaml. Errors are told in band.
#[utoipa::path(get, path = "/v1/stories/{id}/stream", operation_id = "streamStory", tag = "events",
    params(("id" = String, Path, description = "The story", pattern = "^[a-z0-9][a-z0-9-]{0,63}$"), From,
        ("last-event-id" = Option<String>, Header, description = "The cursor of the last event")),
    responses((status = 200, description = "The events", content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream(
    State(app): State<App>,
    Visitor { client, entered }: Visitor,
    story: Result<Path<String>, PathRejection>,
    (from, RawQuery(query)): (Result<Query<From>, QueryRejection>, RawQuery),
    headers: HeaderMap,
) -> Response {
    let opened = async {
        let Path(story) = story.map_err(|error| Problem::bad(error.body_text()))?;
        let Query(from) = from.map_err(|error| Problem::bad(error.body_text()))?;
        let cursor = begin(&headers, from.cursor);
        if !app.origins.allows(&headers) {
            let words = "pages of this origin may not read stories: the gateway's --origin names those that may";
            return Err(Problem::forbidden(words));
        }
        let entered = entered?;
        let who = app.identify(&headers, query.as_deref());
        let identity = app.tried(client, who).await?;
        Stream::open(&app, &story, cursor, identity, entered).await
    };
    let body = match opened.await {
        Ok(stream) => {
            let chunks = stream::unfold(Box::new(stream), async |mut stream| {
                let chunk = stream.next().await?;
                Some((Ok::<_, Infallible>(chunk), stream))
            });
            Body::from_stream(chunks)
        }
        Err(problem) => Body::from(told(&problem)),
    };
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Nginx would keep it back.
        ("x-accel-buffering", "no"),
    ];
    (headers, body).into_response()
}

/// Where a reader goes on: after its `Last-Event-ID`, else after `?cursor=`. A browser sends what is no cursor again and
/// again: it is a place that never was, so that its reader is told of a gap, once, and starts anew.
fn begin(headers: &HeaderMap, asked: Option<String>) -> Option<Cursor> {
    let last = headers.get("last-event-id");
    let last = last.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let last = last.filter(|text| !text.is_empty());
    let text = last.or(asked).filter(|text| !text.is_empty())?;
    let nowhere = Cursor {
        epoch: "0".to_owned(),
        seq: Seq(0),
        tag: Tag::START,
        draft: None,
    };
    Some(text.parse().unwrap_or(nowhere))
}

struct Stream {
    app: App,
    feed: Feed,
    _membership: Membership,
    /// When the token is over.
    until: Instant,
    /// When a sign of life is due.
    beat: Instant,
    state: Life,
    identity: Identity,
    revocations: watch::Receiver<u64>,
    _connected: Connected,
    _place: Place<Arc<str>>,
    _entered: Entered,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    New,
    Open,
    Over,
}

impl Stream {
    async fn open(
        app: &App,
        story: &str,
        cursor: Option<Cursor>,
        identity: Identity,
        entered: Entered,
    ) -> Result<Self, Problem> {
        let story: StoryId = story
            .parse()
            .map_err(|error| Problem::bad(format!("{error}")))?;
        if identity.role(&story).is_none() {
            let words = format!("your token does not let you read {story}");
            return Err(Problem::forbidden(words));
        }
        if identity.is_over(now().unix) {
            return Err(Unauthorized::Refused(Refusal::Expired).into());
        }
        let place = app.place(&identity.sub);
        let place = place.ok_or_else(|| Problem::crowd(OF_PERSON))?;
        // A revocation that came before this was not heard of.
        let revocations = app.revoked.changes();
        if app.revoked.has(&identity) {
            return Err(Unauthorized::Revoked.into());
        }
        let (reader, feed) = reader(&identity, QUEUE);
        let membership = app.hub.join(&story, cursor, (&reader, 0)).await;
        let membership = membership.map_err(|error| Problem::from(&error))?;
        let now = now();
        let left = identity.expires_at.saturating_sub(now.unix);
        Ok(Self {
            app: app.clone(),
            feed,
            _membership: membership,
            until: now.instant + Duration::from_secs(left),
            beat: now.instant + app.ping,
            state: Life::New,
            revocations,
            _connected: app.metrics.connected("sse"),
            _place: place,
            _entered: entered,
            // What they may read was asked for above; thousands of streams keep no list of it.
            identity: Identity {
                stories: Grants::default(),
                ..identity
            },
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let chunk = self.chunk().await?;
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
    }

    /// May be empty.
    async fn chunk(&mut self) -> Option<Bytes> {
        match self.state {
            Life::New => {
                self.state = Life::Open;
                return Some(format!("retry: {RETRY}\n\n").into());
            }
            Life::Open => {}
            Life::Over => return None,
        }
        let delivery = tokio::select! {
            // Whose token is over is told nothing more, however much waits for them.
            biased;
            () = sleep_until(self.until) => {
                return self.bye("your token is over: connect with a new one", RETRY);
            }
            Ok(()) = self.revocations.changed() => {
                if self.app.revoked.has(&self.identity) {
                    return self.bye("your token was revoked: connect with a new one", RETRY);
                }
                return Some(Bytes::new());
            }
            () = self.app.drain.cancelled() => {
                let after = self.app.comes_back_after();
                return self.bye("the server restarts: come back", after);
            }
            delivery = self.feed.next() => delivery,
            () = sleep_until(self.beat) => {
                self.beat = Instant::now() + self.app.ping;
                return Some(Bytes::from_static(b":\n\n"));
            }
        };
        match delivery {
            Ok(delivery) => Some(self.together(&delivery)),
            Err(Why::Slow) => {
                self.app.metrics.closed(Close::Slow);
                self.bye(Close::Slow.reason(), RETRY)
            }
            Err(Why::Story(_)) => {
                let reason = "the story cannot be read now: come back";
                self.bye(reason, joins_again_after())
            }
        }
    }

    fn together(&mut self, first: &Delivery) -> Bytes {
        self.beat = Instant::now() + self.app.ping;
        first.written(&self.app.metrics);
        let mut more = self.feed.try_next();
        if more.is_none() {
            return first.stream();
        }
        let mut chunk = BytesMut::from(&first.stream()[..]);
        for count in 2.. {
            let Some(next) = more else { break };
            next.written(&self.app.metrics);
            chunk.extend_from_slice(&next.stream());
            if count == TOGETHER || chunk.len() >= TOGETHER_BYTES {
                break;
            }
            more = self.feed.try_next();
        }
        chunk.freeze()
    }

    fn bye(&mut self, reason: &str, after_ms: u64) -> Option<Bytes> {
        self.state = Life::Over;
        let bye = json!({"t": "bye", "reason": reason, "after_ms": after_ms});
        Some(format!("retry: {after_ms}\nevent: bye\ndata: {bye}\n\n").into())
    }
}

fn told(problem: &Problem) -> Bytes {
    let after = problem.after_ms.unwrap_or(RETRY_ERROR);
    let error = json!({
        "t": "err", "code": problem.code, "message": problem.detail, "after_ms": problem.after_ms,
    });
    format!("retry: {after}\nevent: error\ndata: {error}\n\n").into()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Uri};
    use proptest::prelude::*;

    use super::*;

    fn headers(last: Option<&[u8]>) -> HeaderMap {
        let last = last.map(|bytes| HeaderValue::from_bytes(bytes).unwrap());
        let last = last.map(|value| ("last-event-id".parse().unwrap(), value));
        last.into_iter().collect()
    }

    #[test]
    fn a_reader_goes_on_where_its_last_event_was() {
        let (one, two) = ("e-1-abcd", "e-2-abcd:κ.1.7");
        let begin = |last: Option<&str>, asked: Option<&str>| {
            let headers = headers(last.map(str::as_bytes));
            begin(&headers, asked.map(str::to_owned)).map(|cursor| cursor.to_string())
        };
        assert_eq!(begin(None, None), None);
        assert_eq!(begin(None, Some("")), None);
        assert_eq!(begin(None, Some(one)).as_deref(), Some(one));
        assert_eq!(begin(Some(two), Some(one)).as_deref(), Some(two));
        assert_eq!(begin(Some(""), Some(one)).as_deref(), Some(one));
        for nowhere in ["x", "e-01-abcd"] {
            assert_eq!(begin(Some(nowhere), Some(one)).as_deref(), Some("0-0-0000"));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_a_reader_begins_somewhere(
            last in prop::option::of(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[0-9a-z]{1,3}-[0-9]{1,3}-[a-z0-9]{4}(:\\PC{1,5}\\.[0-9]{1,3}\\.[0-9]{1,3})?".prop_map(String::into_bytes),
            ].prop_filter("no header", |bytes| HeaderValue::from_bytes(bytes).is_ok())),
            asked in prop::option::of("\\PC{0,20}"),
        ) {
            let begun = begin(&headers(last.as_deref()), asked.clone());
            let last = last.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            match [last, asked].into_iter().flatten().find(|text| !text.is_empty()) {
                None => prop_assert_eq!(begun, None),
                Some(text) => {
                    let begun = begun.map(|cursor| cursor.to_string());
                    prop_assert!(begun.as_ref() == Some(&text) || begun.as_deref() == Some("0-0-0000"));
                }
            }
        }

        #[test]
        fn a_cursor_comes_through_a_query_as_it_was(
            text in "[0-9a-zA-Z]{1,3}-[0-9]{1,3}-[a-z0-9]{4}:\\PC{1,8}\\.[0-9]{1,3}\\.[0-9]{1,3}",
            more in "[a-z&=%+]{0,12}",
        ) {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let read = |query: &str| -> Option<Query<From>> {
                Query::try_from_uri(&format!("/?{query}").parse::<Uri>().ok()?).ok()
            };
            let Query(from) = read(&format!("cursor={encoded}")).unwrap();
            prop_assert_eq!(from.cursor, Some(text));
            // Whatever else there is may be refused and breaks nothing.
            let _refused = read(&more);
        }
    }
}
