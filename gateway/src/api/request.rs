//! What every request has, whoever answers it: an id, a span in the logs, and a problem in the place of an error without
//! words of ours.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;

use crate::problem::Problem;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_ID_BYTES: usize = 64;
/// What is read of an error that is no problem yet: a line.
const MAX_WORDS_BYTES: usize = 1_024;

/// A layer around all routes. The query is never logged: a ticket may be in it.
pub(crate) async fn identified(request: Request, next: Next) -> Response {
    let id = id(request.headers());
    let (method, path) = (request.method(), request.uri().path());
    let span = tracing::info_span!("request", id, %method, path);
    let answered = async {
        let begun = Instant::now();
        let mut response = as_problem(next.run(request).await, &id).await;
        let (status, ms) = (response.status(), begun.elapsed().as_millis());
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), ms, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), ms, "answered");
        }
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, value);
        }
        // Each is for who asked, and what shows who that is may be a cookie or a ticket.
        let cache = headers.entry(header::CACHE_CONTROL);
        cache.or_insert(HeaderValue::from_static("no-store"));
        response
    };
    answered.instrument(span).await
}

/// The client's own where it is one, else a new one.
fn id(headers: &HeaderMap) -> String {
    let mut sent = headers.get_all(REQUEST_ID).iter();
    let one = match (sent.next(), sent.next()) {
        (Some(one), None) => one.to_str().ok().filter(|text| is_id(text)),
        _ => None,
    };
    let new = || format!("{:032x}", rand::random::<u128>());
    one.map_or_else(new, str::to_owned)
}

fn is_id(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

async fn as_problem(mut response: Response, id: &str) -> Response {
    let status = response.status();
    let known = response.extensions_mut().remove::<Problem>();
    if known.is_none() && !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let problem = match known {
        Some(problem) => problem,
        None => {
            let words = to_bytes(body, MAX_WORDS_BYTES).await.unwrap_or_default();
            foreign(status, &String::from_utf8_lossy(&words))
        }
    };
    let request_id = Some(id.to_owned());
    let mut told = Problem {
        request_id,
        ..problem
    }
    .into_response();
    for (name, value) in &parts.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            told.headers_mut().insert(name, value.clone());
        }
    }
    told
}

/// What the router and its extractors refuse by themselves.
fn foreign(status: StatusCode, words: &str) -> Problem {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            // The router adds the header when this is done.
            let words = "this address does not take that method: its Allow header names those that it takes";
            Problem::new(status, "method", words)
        }
        StatusCode::UPGRADE_REQUIRED => Problem::new(status, "upgrade", words),
        _ if status.is_client_error() => Problem::new(status, "bad_request", words),
        _ => Problem::new(status, "failed", "this could not be done: try again later"),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::extract::Query;
    use axum::http::Method;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use serde::Deserialize;
    use serde_json::Value;
    use tower::Service as _;

    use super::*;

    #[derive(Deserialize)]
    struct Which {
        limit: u32,
    }

    async fn ask(method: Method, uri: &str, id: Option<&str>) -> Response {
        let mut router = Router::new()
            .route(
                "/page",
                get(async |Query(Which { limit }): Query<Which>| limit.to_string()),
            )
            .route("/broken", get(async || StatusCode::INTERNAL_SERVER_ERROR))
            .route("/kept", get(async || [("cache-control", "no-cache")]))
            .route("/problem", get(async || Problem::forbidden("not for you")))
            .layer(from_fn(identified));
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let request = request.body(Body::empty()).expect("a request");
        router.call(request).await.expect("an answer")
    }

    async fn problem(response: Response) -> Value {
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        let body = to_bytes(response.into_body(), 4_096).await.expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[tokio::test]
    async fn an_id_that_is_one_comes_back_and_any_other_is_replaced() {
        let longest = "x".repeat(64);
        for id in ["a", "A.b_c-9", longest.as_str()] {
            let response = ask(Method::GET, "/page?limit=1", Some(id)).await;
            assert_eq!(response.headers()[REQUEST_ID], id);
        }
        let longer = "x".repeat(65);
        for id in [None, Some(""), Some("a b"), Some("a/b"), Some(&*longer)] {
            let response = ask(Method::GET, "/page?limit=1", id).await;
            let made = response.headers()[REQUEST_ID].to_str().expect("text");
            assert!(is_id(made) && made.len() == 32, "{made}");
        }
    }

    #[tokio::test]
    async fn whatever_refuses_it_says_it_as_a_problem_with_the_id() {
        for (method, uri, status, code) in [
            (Method::GET, "/problem", 403, "forbidden"),
            (Method::GET, "/nothing", 404, "bad_request"),
            (Method::POST, "/page", 405, "method"),
            (Method::OPTIONS, "/page", 405, "method"),
            (Method::GET, "/page?limit=x", 400, "bad_request"),
            (Method::GET, "/broken", 500, "failed"),
        ] {
            let response = ask(method, uri, Some("r1")).await;
            assert_eq!(response.status(), status, "{uri}");
            assert_eq!(response.headers()[REQUEST_ID], "r1");
            if status == 405 {
                assert_eq!(response.headers()["allow"], "GET,HEAD");
            }
            let problem = problem(response).await;
            assert_eq!(problem["code"], code, "{uri}");
            assert_eq!(problem["request_id"], "r1");
            assert_eq!(problem["status"], status);
        }
    }

    #[tokio::test]
    async fn nothing_is_kept_by_what_lies_between_unless_it_may_be() {
        for (uri, cache) in [
            ("/page?limit=1", "no-store"),
            ("/problem", "no-store"),
            ("/nothing", "no-store"),
            ("/kept", "no-cache"),
        ] {
            let response = ask(Method::GET, uri, None).await;
            assert_eq!(response.headers()["cache-control"], cache, "{uri}");
        }
    }

    #[tokio::test]
    async fn a_head_has_the_head_of_a_get_and_no_body() {
        for (uri, status) in [("/page?limit=1", 200), ("/problem", 403)] {
            let response = ask(Method::HEAD, uri, None).await;
            assert_eq!(response.status(), status);
            let body = to_bytes(response.into_body(), 4_096).await;
            assert!(body.expect("a body").is_empty(), "{uri}");
        }
    }
}
