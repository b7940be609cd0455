//! What a request carries to say who sends it. The first place that has something decides: what is wrong there is refused,
//! never looked past.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, COOKIE as COOKIES, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
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
const NOT_TEXT_COOKIE: Refusal =
    Refusal::Malformed("the cookie `__Host-storyfleet` has bytes that no token has: sign in again");
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
    let mut offered = Vec::new();
    // Over all lines: one that is not text must not hide a part of those that are.
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        offered.extend(text(value)?.split(',').map(str::trim));
    }
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

/// A browser sends the cookies of all that is on this host, and they may have any bytes.
fn from_cookie(headers: &HeaderMap, origins: &Origins) -> Result<Option<String>, Refusal> {
    let lines = headers.get_all(COOKIES).iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut ours = cookies.filter_map(our_token);
    let Some(token) = ours.next() else {
        return Ok(None);
    };
    if ours.next().is_some() {
        return Err(Refusal::Twice("cookie"));
    }
    if !origins.allows_cookie(headers) {
        return Err(Refusal::Origin);
    }
    match str::from_utf8(token) {
        Ok("") => Err(EMPTY_COOKIE),
        Ok(token) if token.is_ascii() => bounded(token).map(Some),
        _ => Err(NOT_TEXT_COOKIE),
    }
}

fn our_token(cookie: &[u8]) -> Option<&[u8]> {
    let end = cookie.iter().position(|byte| *byte == b'=')?;
    let (name, token) = (&cookie[..end], &cookie[end + 1..]);
    (name.trim_ascii() == COOKIE.as_bytes()).then_some(token.trim_ascii())
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
mod tests;
