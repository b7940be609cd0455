//! What browsers ask before a page of another origin may use the API: pages on the allow-list may, with a token, and with
//! the cookie where their origin is named. Whoever is not on the list is told nothing that a browser would let them see.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::auth::{Foreign, Origins};
use crate::problem::Problem;

const METHODS: &str = "GET, HEAD, POST, PATCH";
const HEADERS: &str =
    "authorization, content-type, idempotency-key, last-event-id, if-none-match, x-request-id";
const SEEN: &str = "etag, location, retry-after, x-request-id";
/// Seconds for which a browser need not ask again.
const AGE: &str = "600";

/// A layer around all routes of the API.
pub(crate) async fn shared(State(app): State<App>, request: Request, next: Next) -> Response {
    let asks = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let grants = grants(&app.origins, request.headers());
    let mut response = match (asks, grants.is_empty()) {
        (true, true) => Problem::forbidden(
            "pages of this origin may not use the API: the gateway's --origin names those that may",
        )
        .into_response(),
        (true, false) => asked(),
        (false, _) => next.run(request).await,
    };
    response.headers_mut().extend(grants);
    // The answer is another for another origin, and must not be kept for that one.
    let vary = HeaderValue::from_static("origin");
    response.headers_mut().append(header::VARY, vary);
    response
}

fn asked() -> Response {
    let fixed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, AGE),
    ];
    (StatusCode::NO_CONTENT, fixed).into_response()
}

/// Nothing for the gateway's own pages, which need not ask, and for those that may not.
fn grants(origins: &Origins, headers: &HeaderMap) -> HeaderMap {
    let fixed = |text| HeaderValue::from_static(text);
    let seen = (header::ACCESS_CONTROL_EXPOSE_HEADERS, fixed(SEEN));
    let allowed = header::ACCESS_CONTROL_ALLOW_ORIGIN;
    let credentials = header::ACCESS_CONTROL_ALLOW_CREDENTIALS;
    let grants: Vec<(HeaderName, HeaderValue)> = match origins.foreign(headers) {
        Foreign::Named(origin) => vec![(allowed, origin), (credentials, fixed("true")), seen],
        Foreign::Any => vec![(allowed, fixed("*")), seen],
        Foreign::No => Vec::new(),
    };
    grants.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(list: &[&str], origin: Option<&str>) -> Vec<(String, String)> {
        let list = list.iter().map(|text| text.parse().expect("an origin"));
        let origins = Origins::new(list.collect()).expect("a list");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("here.example"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().expect("a header"));
        }
        let grants = grants(&origins, &headers);
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let grants = grants.iter().map(|(n, v)| (n.to_string(), text(v)));
        grants
            .filter(|(name, _)| !name.ends_with("expose-headers"))
            .collect()
    }

    #[test]
    fn a_named_origin_gets_itself_with_credentials_and_no_other_gets_anything() {
        let list = ["https://app.example", "https://b.example"];
        let named = granted(&list, Some("https://app.example"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let credentials = "access-control-allow-credentials";
        let origin = "access-control-allow-origin";
        assert!(named.contains(&pair(origin, "https://app.example")));
        assert!(named.contains(&pair(credentials, "true")));
        for other in [
            None,
            Some("null"),
            Some("https://evil.example"),
            Some("https://app.example.evil"),
        ] {
            assert_eq!(granted(&list, other), [], "{other:?}");
        }
    }

    #[test]
    fn credentials_never_go_with_the_star() {
        let any = granted(&["*"], Some("https://any.example"));
        let star = ("access-control-allow-origin".to_owned(), "*".to_owned());
        assert_eq!(any, [star]);
        assert_eq!(granted(&["*"], None), []);
    }
}
