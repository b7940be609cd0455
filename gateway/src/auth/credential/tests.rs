//! Each place that may hold a token or a ticket, good and bad, and in what order they count.

use http::HeaderName;
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
fn whatever_bytes_another_cookie_has_ours_and_a_ticket_are_good() {
    let with = |cookies: &[&[u8]]| {
        let mut headers = headers(&OWN);
        for line in cookies {
            headers.append("cookie", HeaderValue::from_bytes(line).unwrap());
        }
        let found = credential(&headers, Some("ticket=d"), &Origins::default())?;
        Ok(match found {
            Credential::Cookie(token) => token.expose_secret().to_owned(),
            other => format!("{other:?}"),
        })
    };
    let city = "city=K\u{f6}ln".as_bytes();
    assert!(with(&[city]).is_ok_and(|found| found.starts_with("Ticket")));
    let ours = b"x=\xff; __Host-storyfleet = c ; \xfe; y=\xfd=1";
    assert_eq!(with(&[city, ours, city]).as_deref(), Ok("c"));
    // Nothing hides a second one, and ours is text.
    let twice = with(&[ours, b"\xff=\xff;__Host-storyfleet=d"]);
    assert_eq!(twice, Err(Refusal::Twice("cookie")));
    for bytes in [
        &b"__Host-storyfleet=\xff"[..],
        "__Host-storyfleet=ö".as_bytes(),
    ] {
        assert_eq!(with(&[bytes]), Err(NOT_TEXT_COOKIE));
    }
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
