//! What a request carries to say who sends it. The first place that has something decides: what is wrong there is refused,
//! never looked past.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE as COOKIES, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;

use super::MAX_TOKEN_BYTES;
use super::origin::Origins;
use super::refusal::Refusal;

/// The cookie that may hold a token. Its prefix has browsers take it over TLS only, and for one host only.
pub const COOKIE: &str = "__Host-storyfleet";

/// What a WebSocket subprotocol begins with that holds a token: the rest is the token in base64url, without padding.
pub const SUBPROTOCOL: &str = "base64url.bearer.";

/// The longest ticket, in bytes.
const MAX_TICKET_BYTES: usize = 128;

/// Names that people give a token in a query.
const TOKEN_NAMES: [&str; 5] = ["access_token", "token", "id_token", "jwt", "bearer"];

/// What somebody sends to show who they are. Its `Debug` does not tell it.
#[derive(Debug, Clone)]
pub enum Credential {
    /// For [`Verifier::verify`](super::Verifier::verify).
    Token(SecretString),
    /// The same, out of the sight of the page's scripts.
    Cookie(SecretString),
    /// For one use: 1 to 128 of a-z, A-Z, 0-9, `-` and `_`.
    Ticket(SecretString),
}

/// What a request with these headers and this query carries, from the first that is there of: `Authorization: Bearer`, a
/// WebSocket subprotocol (see [`SUBPROTOCOL`]), the cookie [`COOKIE`] if `origins` allow it, `?ticket=`.
///
/// # Errors
/// Nothing is there; it is not as it should be, or is there twice; or a token is in the query, whatever else there is.
pub fn credential(
    headers: &HeaderMap,
    query: Option<&str>,
    origins: &Origins,
) -> Result<Credential, Refusal> {
    let ticket = from_query(query.unwrap_or_default())?;
    let token = match from_authorization(headers)? {
        None => from_subprotocol(headers)?,
        found => found,
    };
    if let Some(token) = token {
        return Ok(Credential::Token(token.into()));
    }
    if let Some(token) = from_cookie(headers, origins)? {
        return Ok(Credential::Cookie(token.into()));
    }
    match ticket {
        Some(ticket) if is_ticket(ticket) => Ok(Credential::Ticket(ticket.into())),
        Some(_) => Err(NOT_TICKET),
        None => Err(Refusal::Missing),
    }
}

const NOT_TEXT: Refusal = Refusal::Malformed(
    "a header that can hold a token has bytes that no token has: send visible ASCII only",
);
const NOT_BEARER: Refusal =
    Refusal::Malformed("the Authorization header is not `Bearer <token>`: write it so");
const NOT_BASE64: Refusal = Refusal::Malformed(
    "what follows `base64url.bearer.` is not a token in base64url without padding: encode it so",
);
const EMPTY_COOKIE: Refusal =
    Refusal::Malformed("the cookie `__Host-storyfleet` is empty: sign in again");
const NOT_TICKET: Refusal =
    Refusal::Malformed("that is not a ticket: get one from POST /v1/tickets and send it as it is");

fn from_authorization(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Twice("Authorization header"));
    }
    let (scheme, token) = text(value)?.trim().split_once(' ').ok_or(NOT_BEARER)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(NOT_BEARER);
    }
    bounded(token.trim_start()).map(Some)
}

fn from_subprotocol(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let offered = listed(headers, &SEC_WEBSOCKET_PROTOCOL, ',')?;
    let mut tokens = offered
        .iter()
        .filter_map(|one| one.strip_prefix(SUBPROTOCOL));
    let Some(encoded) = tokens.next() else {
        return Ok(None);
    };
    if tokens.next().is_some() {
        return Err(Refusal::Twice("subprotocol with a token"));
    }
    // Four characters hold three bytes.
    if encoded.len() > MAX_TOKEN_BYTES.div_ceil(3) * 4 {
        return Err(Refusal::TooLarge);
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NOT_BASE64)?;
    let token = String::from_utf8(bytes).map_err(|_| NOT_BASE64)?;
    if token.is_empty() {
        return Err(NOT_BASE64);
    }
    bounded(&token).map(Some)
}

fn from_cookie(headers: &HeaderMap, origins: &Origins) -> Result<Option<String>, Refusal> {
    let cookies = listed(headers, &COOKIES, ';')?;
    let pairs = cookies.iter().filter_map(|cookie| cookie.split_once('='));
    let mut ours = pairs.filter(|(name, _)| name.trim_end() == COOKIE);
    let Some((_, token)) = ours.next() else {
        return Ok(None);
    };
    if ours.next().is_some() {
        return Err(Refusal::Twice("cookie"));
    }
    if !origins.allows_cookie(headers) {
        return Err(Refusal::Origin);
    }
    match token.trim_start() {
        "" => Err(EMPTY_COOKIE),
        token => bounded(token).map(Some),
    }
}

/// The ticket, if there is one; a token there is refused, since it has been in logs by now.
fn from_query(query: &str) -> Result<Option<&str>, Refusal> {
    let mut ticket = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if TOKEN_NAMES
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return Err(Refusal::InQuery);
        }
        if name == "ticket" && ticket.replace(value).is_some() {
            return Err(Refusal::Twice("ticket"));
        }
    }
    Ok(ticket)
}

fn is_ticket(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    (1..=MAX_TICKET_BYTES).contains(&text.len()) && text.bytes().all(fits)
}

/// The parts of a header that is a list, over all of its lines. Only lines that are text count, and one that is not must
/// not hide a part of those that are.
fn listed<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    between: char,
) -> Result<Vec<&'a str>, Refusal> {
    let mut parts = Vec::new();
    for value in headers.get_all(name) {
        parts.extend(text(value)?.split(between).map(str::trim));
    }
    Ok(parts)
}

fn text(value: &HeaderValue) -> Result<&str, Refusal> {
    value.to_str().map_err(|_| NOT_TEXT)
}

fn bounded(token: &str) -> Result<String, Refusal> {
    if token.len() > MAX_TOKEN_BYTES {
        Err(Refusal::TooLarge)
    } else {
        Ok(token.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    const OWN: [(&str, &str); 2] = [("host", "game.example"), ("origin", "https://game.example")];

    fn headers(sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn read(sent: &[(&'static str, &str)], query: &str) -> Result<String, Refusal> {
        let query = (!query.is_empty()).then_some(query);
        credential(&headers(sent), query, &Origins::default()).map(|found| match found {
            Credential::Token(token) | Credential::Cookie(token) => {
                format!("token {}", token.expose_secret())
            }
            Credential::Ticket(ticket) => format!("ticket {}", ticket.expose_secret()),
        })
    }

    fn subprotocol(token: &str) -> String {
        format!("{SUBPROTOCOL}{}", URL_SAFE_NO_PAD.encode(token))
    }

    #[test]
    fn the_first_place_that_has_something_decides() {
        let protocols = format!("storyfleet.v1, {}", subprotocol("b"));
        let mut sent = vec![
            ("authorization", "Bearer a"),
            ("sec-websocket-protocol", &*protocols),
            ("cookie", "x=1; __Host-storyfleet=c; y=2"),
            OWN[0],
            OWN[1],
        ];
        for expected in ["token a", "token b", "token c"] {
            assert_eq!(read(&sent, "cursor=x&ticket=d").as_deref(), Ok(expected));
            sent.remove(0);
        }
        assert_eq!(read(&sent, "cursor=x&ticket=d").as_deref(), Ok("ticket d"));
        assert_eq!(read(&sent, "cursor=x"), Err(Refusal::Missing));
        assert_eq!(read(&[], ""), Err(Refusal::Missing));
    }

    #[test]
    fn what_is_wrong_in_one_place_is_not_looked_past() {
        for value in ["Basic bTpw", "Bearer", "Bearer ", "a.b.c", ""] {
            let sent = [("authorization", value)];
            assert_eq!(read(&sent, "ticket=d"), Err(NOT_BEARER), "{value}");
        }
        for value in [
            "base64url.bearer.",
            "base64url.bearer.a",
            "base64url.bearer.YQ==",
            "base64url.bearer._w",
        ] {
            let sent = [("sec-websocket-protocol", value)];
            assert_eq!(read(&sent, "ticket=d"), Err(NOT_BASE64), "{value}");
        }
        for query in ["ticket=", "ticket", "ticket=a.b", "ticket=%61"] {
            assert_eq!(read(&[], query), Err(NOT_TICKET), "{query}");
        }
        let mut bytes = headers(&[("authorization", "Bearer a")]);
        bytes.insert(
            "authorization",
            HeaderValue::from_bytes(b"Bearer \xff").unwrap(),
        );
        assert_eq!(
            credential(&bytes, None, &Origins::default()).unwrap_err(),
            NOT_TEXT
        );
    }

    #[test]
    fn what_is_there_twice_is_refused() {
        let token = subprotocol("b");
        let both = format!("{token}, {token}");
        for sent in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")][..],
            &[
                ("sec-websocket-protocol", &*token),
                ("sec-websocket-protocol", &*token),
            ],
            &[("sec-websocket-protocol", &*both)],
            &[
                ("cookie", "__Host-storyfleet=c; __Host-storyfleet=c"),
                OWN[0],
                OWN[1],
            ],
            &[
                ("cookie", "__Host-storyfleet=c"),
                ("cookie", "__Host-storyfleet=d"),
                OWN[0],
                OWN[1],
            ],
        ] {
            let refused = read(sent, "").unwrap_err();
            assert_eq!(refused.as_str(), "twice", "{sent:?}");
        }
        assert_eq!(
            read(&[], "ticket=a&ticket=a"),
            Err(Refusal::Twice("ticket"))
        );
    }

    #[test]
    fn a_token_in_the_query_is_refused_whatever_else_there_is() {
        for query in [
            "access_token=a",
            "x=1&token=a",
            "TOKEN=a",
            "jwt=a",
            "ticket=a&id_token",
        ] {
            let sent = [("authorization", "Bearer a")];
            assert_eq!(read(&sent, query), Err(Refusal::InQuery), "{query}");
        }
    }

    #[test]
    fn a_cookie_from_elsewhere_is_refused() {
        let cookie = ("cookie", "__Host-storyfleet=c");
        for other in [
            ("origin", "https://evil.example"),
            ("accept", "*/*"),
            ("sec-fetch-site", "cross-site"),
        ] {
            assert_eq!(read(&[cookie, OWN[0], other], ""), Err(Refusal::Origin));
        }
        let same = ("sec-fetch-site", "same-origin");
        assert_eq!(read(&[cookie, OWN[0], same], "").as_deref(), Ok("token c"));
        let others = ("cookie", "storyfleet=c; __host-storyfleet=d");
        assert_eq!(read(&[others, OWN[0], OWN[1]], ""), Err(Refusal::Missing));
    }

    #[test]
    fn a_token_has_at_most_8_kib_and_a_ticket_128_bytes() {
        let (most, more) = ("t".repeat(MAX_TOKEN_BYTES), "t".repeat(MAX_TOKEN_BYTES + 1));
        let everywhere = |token: &str| {
            [
                read(&[("authorization", &format!("Bearer {token}"))], ""),
                read(&[("sec-websocket-protocol", &subprotocol(token))], ""),
                read(
                    &[("cookie", &format!("{COOKIE}={token}")), OWN[0], OWN[1]],
                    "",
                ),
            ]
        };
        assert!(everywhere(&most).iter().all(Result::is_ok));
        assert_eq!(everywhere(&more), [const { Err(Refusal::TooLarge) }; 3]);
        assert!(read(&[], &format!("ticket={}", "t".repeat(128))).is_ok());
        assert_eq!(
            read(&[], &format!("ticket={}", "t".repeat(129))),
            Err(NOT_TICKET)
        );
    }

    #[test]
    fn a_credential_does_not_tell_itself() {
        for credential in [
            Credential::Token("s3cr3t".into()),
            Credential::Cookie("s3cr3t".into()),
            Credential::Ticket("s3cr3t".into()),
        ] {
            assert!(!format!("{credential:?}").contains("s3cr3t"));
        }
    }

    const NAMES: [&str; 6] = [
        "authorization",
        "cookie",
        "sec-websocket-protocol",
        "origin",
        "host",
        "sec-fetch-site",
    ];

    fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        let name = proptest::sample::select(&NAMES[..]).prop_map(HeaderName::from_static);
        let likely = "(Bearer |bearer|__Host-storyfleet=|base64url\\.bearer\\.|https://|;|,|=| |a\\.b\\.c|[a-zA-Z0-9_-]{0,8}){0,6}";
        let value = prop_oneof![
            likely.prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..64)
        ];
        // Other bytes than these no header has.
        let value = value.prop_map(|mut bytes| {
            bytes.retain(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 127);
            HeaderValue::from_bytes(&bytes).unwrap()
        });
        (name, value)
    }

    proptest! {
        #[test]
        fn no_request_breaks_it_and_no_refusal_repeats_it(
            sent in proptest::collection::vec(header(), 0..8),
            query in proptest::option::of("(ticket|token|[a-z%&=]{0,5}|=|&|\\PC{0,4}){0,6}"),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(name, value);
            }
            match credential(&headers, query.as_deref(), &Origins::default()) {
                Ok(Credential::Token(token) | Credential::Cookie(token)) => {
                    prop_assert!(!token.expose_secret().is_empty());
                    prop_assert!(token.expose_secret().len() <= MAX_TOKEN_BYTES);
                }
                Ok(Credential::Ticket(ticket)) => prop_assert!(is_ticket(ticket.expose_secret())),
                Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
            }
        }
    }
}
