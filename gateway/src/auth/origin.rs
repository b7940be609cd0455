//! Which pages may speak to the gateway from a browser: the allow-list, and the rule for cookies, which a browser sends
//! along whoever's page it is.

use std::str::FromStr;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::fetch::is_loopback;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why it is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    #[error(
        "write an origin as browsers send it: https://app.example or http://localhost:3000, or '*' for all"
    )]
    NotOrigin,
    #[error("an origin ends after its host and port: leave out what follows")]
    Longer,
    #[error("'*' allows every origin already: give it alone, or leave it out")]
    StarAmongOthers,
}

/// One entry of the allow-list: `scheme://host[:port]`, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(Entry);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Every,
    /// As a browser writes it.
    Exact(String),
}

/// The origins whose pages are let in besides the gateway's own. Under `*` cookies count from its own pages only, as if
/// the list were empty: else any page could act with its visitor's.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<Origin>);

/// What a browser is told about a page of another origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// Named in the list: its cookie counts too.
    Named(HeaderValue),
    /// Under `*`.
    Any,
    No,
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        if text == "*" {
            return Ok(Self(Entry::Every));
        }
        let url = Url::parse(text).map_err(|_| OriginError::NotOrigin)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OriginError::NotOrigin);
        }
        let is_bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !is_bare {
            return Err(OriginError::Longer);
        }
        Ok(Self(Entry::Exact(url.origin().ascii_serialization())))
    }
}

impl Origins {
    /// # Errors
    /// `*` is not alone.
    pub fn new(allowed: Vec<Origin>) -> Result<Self, OriginError> {
        let has_star = allowed.iter().any(|origin| origin.0 == Entry::Every);
        if has_star && allowed.len() > 1 {
            return Err(OriginError::StarAmongOthers);
        }
        Ok(Self(allowed))
    }

    /// Whether a request with these headers may be answered: its `Origin` is on the list or is that of `Host`, or it has
    /// none, as whatever is no browser. (On HTTP/2 `Host` is what the caller made of `:authority`.)
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        match origin(headers) {
            Sent::Nothing => true,
            Sent::Once(origin) => {
                self.has(&Entry::Every) || self.has_exact(origin) || is_own(origin, headers)
            }
            Sent::Wrongly => false,
        }
    }

    /// Whether a cookie of these headers was sent by a page that may. Browsers leave `Origin` out where a page reads from
    /// its own site, and say then that they do; what says nothing could be anybody's page in an old browser.
    #[must_use]
    pub(super) fn allows_cookie(&self, headers: &HeaderMap) -> bool {
        match origin(headers) {
            Sent::Nothing => is_own_fetch(headers),
            // A page that came in the clear may be forged by anybody on the way.
            Sent::Once(origin) => {
                self.has_exact(origin) || (is_own(origin, headers) && is_trustworthy(origin))
            }
            Sent::Wrongly => false,
        }
    }

    /// Whether the page that sent these headers is of another origin that is on the list.
    pub(crate) fn foreign(&self, headers: &HeaderMap) -> Foreign {
        match (origin(headers), headers.get(ORIGIN)) {
            (Sent::Once(text), Some(origin)) if self.has_exact(text) => {
                Foreign::Named(origin.clone())
            }
            (Sent::Once(_), _) if self.has(&Entry::Every) => Foreign::Any,
            _ => Foreign::No,
        }
    }

    fn has(&self, entry: &Entry) -> bool {
        self.0.iter().any(|origin| origin.0 == *entry)
    }

    fn has_exact(&self, origin: &str) -> bool {
        self.has(&Entry::Exact(origin.to_owned()))
    }
}

/// A header that counts once.
enum Sent<'a> {
    Nothing,
    Once(&'a str),
    /// Twice, or not as text.
    Wrongly,
}

fn sent<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Sent<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(value), None) => value.to_str().map_or(Sent::Wrongly, Sent::Once),
        (Some(_), Some(_)) => Sent::Wrongly,
    }
}

fn origin(headers: &HeaderMap) -> Sent<'_> {
    sent(headers, &ORIGIN)
}

fn is_own_fetch(headers: &HeaderMap) -> bool {
    matches!(
        sent(headers, &FETCH_SITE),
        Sent::Once("same-origin" | "none")
    )
}

/// Whether that origin's host and port are those the request was sent to. Its scheme is not known here: TLS may end before.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let (Some((scheme, authority)), Sent::Once(host)) =
        (origin.split_once("://"), sent(headers, &HOST))
    else {
        return false;
    };
    let default = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let without = |text: &'_ str| {
        text.strip_suffix(default)
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    !authority.is_empty() && without(authority) == without(host)
}

fn is_trustworthy(origin: &str) -> bool {
    origin.starts_with("https://")
        || Url::parse(origin).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allowed: &[&str]) -> Origins {
        let allowed = allowed.iter().map(|origin| origin.parse().unwrap());
        Origins::new(allowed.collect()).unwrap()
    }

    fn headers(sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (text, stored) in [
            ("https://App.Example", "https://app.example"),
            ("https://app.example:443/", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse(), Ok(Origin(Entry::Exact(stored.to_owned()))));
        }
        for text in [
            "",
            "app.example",
            "null",
            "ws://app.example",
            "*.app.example",
            "https://",
            "file:///x",
        ] {
            assert_eq!(
                text.parse::<Origin>(),
                Err(OriginError::NotOrigin),
                "{text}"
            );
        }
        for text in [
            "https://a.example/path",
            "https://a.example/?q",
            "https://a.example/#",
            "https://me@a.example",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(OriginError::Longer), "{text}");
        }
    }

    #[test]
    fn a_star_stands_alone() {
        let star: Origin = "*".parse().unwrap();
        let app: Origin = "https://app.example".parse().unwrap();
        assert!(Origins::new(vec![star.clone()]).is_ok());
        assert_eq!(
            Origins::new(vec![star, app]).err(),
            Some(OriginError::StarAmongOthers)
        );
    }

    #[test]
    fn only_the_list_and_the_own_page_are_let_in() {
        let listed = origins(&["https://app.example"]);
        let host = ("host", "game.example");
        for (origin, is_allowed) in [
            ("https://app.example", true),
            ("http://app.example", false),
            ("https://app.example:444", false),
            ("https://app.example.evil.example", false),
            ("https://evil.example", false),
            ("null", false),
            ("https://game.example", true),
            ("https://GAME.example:443", true),
            ("https://game.example:444", false),
            ("ftp://game.example", false),
            ("https://", false),
        ] {
            let sent = headers(&[host, ("origin", origin)]);
            assert_eq!(listed.allows(&sent), is_allowed, "{origin}");
        }
        assert!(listed.allows(&headers(&[host])));
        let twice = headers(&[
            host,
            ("origin", "https://app.example"),
            ("origin", "https://app.example"),
        ]);
        assert!(!listed.allows(&twice));
        assert!(!listed.allows(&headers(&[("origin", "https://game.example")])));
        assert!(origins(&["*"]).allows(&headers(&[host, ("origin", "https://evil.example")])));
    }

    #[test]
    fn a_cookie_counts_from_pages_that_may_use_it() {
        let listed = origins(&["https://app.example"]);
        let star = origins(&["*"]);
        let host = ("host", "game.example");
        for (second, by_list, by_star) in [
            (("origin", "https://app.example"), true, false),
            (("origin", "https://game.example"), true, true),
            (("origin", "http://game.example"), false, false),
            (("origin", "https://evil.example"), false, false),
            (("origin", "null"), false, false),
            (("sec-fetch-site", "same-origin"), true, true),
            (("sec-fetch-site", "none"), true, true),
            (("sec-fetch-site", "same-site"), false, false),
            (("sec-fetch-site", "cross-site"), false, false),
            (("accept", "*/*"), false, false),
        ] {
            let sent = headers(&[host, second]);
            assert_eq!(listed.allows_cookie(&sent), by_list, "{second:?}");
            assert_eq!(star.allows_cookie(&sent), by_star, "{second:?} under *");
        }
        let local = headers(&[
            ("host", "127.0.0.1:8080"),
            ("origin", "http://127.0.0.1:8080"),
        ]);
        assert!(listed.allows_cookie(&local));
    }
}
