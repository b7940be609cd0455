//! The page at `/` and the client that it uses, embedded: nothing but this program is needed to play a story. The page
//! may load nothing from elsewhere and be shown in no other page.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A browser asks each time whether it still has the right one: its files fit one another only within one version.
const CACHE: &str = "no-cache";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Path, type, content.
const FILES: [(&str, &str, &[u8]); 12] = [
    ("/", HTML, include_bytes!("../web/index.html")),
    ("/app.js", SCRIPT, include_bytes!("../web/app.js")),
    ("/scene.js", SCRIPT, include_bytes!("../web/scene.js")),
    ("/typist.js", SCRIPT, include_bytes!("../web/typist.js")),
    ("/typists.js", SCRIPT, include_bytes!("../web/typists.js")),
    ("/door.js", SCRIPT, include_bytes!("../web/door.js")),
    ("/client.js", SCRIPT, include_bytes!("../web/client.js")),
    ("/kept.js", SCRIPT, include_bytes!("../web/kept.js")),
    ("/outbox.js", SCRIPT, include_bytes!("../web/outbox.js")),
    (
        "/transport.js",
        SCRIPT,
        include_bytes!("../web/transport.js"),
    ),
    ("/story.js", SCRIPT, include_bytes!("../web/story.js")),
    ("/style.css", STYLE, include_bytes!("../web/style.css")),
];

#[derive(Clone)]
struct File {
    kind: &'static str,
    content: &'static [u8],
    tag: HeaderValue,
}

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files = Router::new();
    let files = FILES.iter().fold(files, |files, (path, kind, content)| {
        let file = File {
            kind,
            content,
            tag: tag(content),
        };
        files.merge(Router::new().route(path, get(serve)).with_state(file))
    });
    files.with_state(())
}

async fn serve(State(file): State<File>, headers: HeaderMap) -> Response {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, CACHE),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let tag = [(header::ETAG, file.tag.clone())];
    if is_known(&headers, &file.tag) {
        return (StatusCode::NOT_MODIFIED, fixed, tag).into_response();
    }
    let kind = [(header::CONTENT_TYPE, file.kind)];
    (fixed, tag, kind, Bytes::from_static(file.content)).into_response()
}

pub(crate) fn tag(content: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(content);
    let letters: String = digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("\"{letters}\""))
        .unwrap_or_else(|error| unreachable!("letters and digits are a header: {error}"))
}

/// Whether the browser has this version. What lies between may have made its tag a weak one.
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let known = known.filter_map(|value| value.to_str().ok());
    known.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::Service as _;

    use super::*;

    async fn ask(path: &str, known: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        let request = request.body(Body::empty()).expect("a request");
        router::<()>().call(request).await.expect("an answer")
    }

    fn text<'a>(response: &'a Response, name: &str) -> &'a str {
        response.headers()[name].to_str().expect("text")
    }

    #[tokio::test]
    async fn every_file_of_the_page_comes_with_its_type_and_the_strict_policy() {
        for (path, kind, content) in FILES {
            let response = ask(path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(text(&response, "content-type"), kind);
            assert_eq!(text(&response, "x-content-type-options"), "nosniff");
            assert_eq!(text(&response, "referrer-policy"), "no-referrer");
            assert_eq!(text(&response, "cache-control"), "no-cache");
            let policy = text(&response, "content-security-policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
            assert!(!policy.contains("unsafe"), "{policy}");
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            assert_eq!(body.expect("a body"), content);
        }
    }

    #[tokio::test]
    async fn a_browser_that_has_the_file_is_not_sent_it_again() {
        let tag = text(&ask("/", None).await, "etag").to_owned();
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".to_owned(),
        ] {
            let response = ask("/", Some(&known)).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(text(&response, "etag"), tag);
            assert!(response.headers().contains_key("content-security-policy"));
        }
        let response = ask("/", Some("\"other\"")).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    #[test]
    fn the_page_has_no_script_and_no_style_of_its_own_that_the_policy_would_stop() {
        let html = String::from_utf8_lossy(FILES[0].2);
        for inline in [
            " style=",
            "<style",
            " onclick=",
            " onload=",
            "javascript:",
            "=\"http",
            "=\"//",
        ] {
            assert!(!html.contains(inline), "{inline}");
        }
        for tag in html.split("<script").skip(1) {
            assert!(tag.starts_with(" type=\"module\" src=\"/"), "{tag}");
        }
    }
}
