//! What a client is made from. Nothing here, or below, reads the environment.

use std::time::Duration;

use async_openai::config::Config;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::{Class, Error, Observer, Price};

/// How to reach a provider and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything before `/chat/completions`, for example `https://api.openai.com/v1`.
    pub base_url: String,
    /// Sent as a bearer token; none for servers that take no key.
    pub api_key: Option<SecretString>,
    pub deadlines: Deadlines,
    /// Most tries of one call. Tries answered with 429 do not count: the total deadline bounds them. Nor do tries that
    /// made no connection, so sent nothing: the patience bounds them.
    pub max_tries: u32,
    /// Whether `data: [DONE]` after some text ends an answer that never gave a finish reason, for servers that never
    /// give one: [`Finish::Other`](crate::Finish). If not, such an answer is truncated.
    pub accept_done: bool,
    /// Most bytes of one HTTP answer, frames included; past it the try fails as `provider`.
    pub max_answer_bytes: usize,
    /// Sent with every request, for providers that want more headers. Their values are never shown.
    pub headers: Vec<(String, SecretString)>,
    /// What its tokens cost, where that is known.
    pub price: Option<Price>,
    pub observer: Observer,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For the connection, TLS included.
    pub connect: Duration,
    /// From the start of a try to its first token; reasoning counts. The whole answer of a call
    /// that does not stream.
    pub first_token: Duration,
    /// Between two tokens.
    pub stall: Duration,
    /// For a provider that is not reached: in one call, however often it goes away.
    pub patience: Duration,
    /// For the call: all tries and the waits between them.
    pub total: Duration,
}

impl Settings {
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            ..Self::default()
        }
    }
}

impl Default for Settings {
    /// OpenAI's own address, without a key.
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key: None,
            deadlines: Deadlines::default(),
            max_tries: 3,
            accept_done: false,
            max_answer_bytes: 4 << 20,
            headers: Vec::new(),
            price: None,
            observer: Observer::default(),
        }
    }
}

impl Deadlines {
    /// For answers that are played.
    pub const NONE: Self = {
        let never = Duration::from_secs(365 * 24 * 60 * 60);
        Self {
            connect: never,
            first_token: never,
            stall: never,
            patience: never,
            total: never,
        }
    };
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_token: Duration::from_secs(20),
            stall: Duration::from_secs(15),
            patience: Duration::from_secs(20),
            total: Duration::from_secs(90),
        }
    }
}

/// Our own `Config` for async-openai: its `OpenAIConfig` reads `OPENAI_*` variables and panics on a
/// key that is no header value.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    base: String,
    key: SecretString,
    headers: HeaderMap,
}

impl Endpoint {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in &settings.headers {
            let bad = || {
                refuse(format!(
                    "`{name}` is no HTTP header, or its value has characters that HTTP forbids"
                ))
            };
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            headers.insert(name, secret(value.expose_secret()).ok_or_else(bad)?);
        }
        if let Some(key) = &settings.api_key {
            let bearer = secret(&format!("Bearer {}", key.expose_secret()));
            let bad = || {
                refuse(
                    "the API key has characters that HTTP forbids, perhaps a line end: write the key alone",
                )
            };
            headers.insert(AUTHORIZATION, bearer.ok_or_else(bad)?);
        }
        Ok(Self {
            base: base_url(&settings.base_url)?,
            key: settings.api_key.clone().unwrap_or_default(),
            headers,
        })
    }
}

/// A header value that no debug output shows.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// The base URL without its last slash. A URL with a password is not repeated in the message.
fn base_url(text: &str) -> Result<String, Error> {
    const WANTED: &str = "write it like https://api.openai.com/v1 or http://127.0.0.1:8080/v1";
    let url = reqwest::Url::parse(text.trim())
        .map_err(|error| refuse(format!("the LLM base URL is no URL ({error}): {WANTED}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refuse(format!(
            "the LLM base URL must start with http:// or https://: {WANTED}"
        )));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(format!(
            "the LLM base URL must not hold a password, give the API key by itself: {WANTED}"
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refuse(format!(
            "the LLM base URL must end before any `?` or `#`: {WANTED}"
        )));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(Class::Request, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_base_url_is_refused_with_what_to_write() {
        for (url, says) in [
            ("", "no URL"),
            ("localhost:8080", "must start with http"),
            ("ftp://host/v1", "must start with http"),
            ("http://", "no URL"),
            ("https://user:hunter2@host/v1", "must not hold a password"),
            ("https://host/v1?key=hunter2", "must end before"),
        ] {
            let message = base_url(url).unwrap_err().message;
            assert!(
                message.contains(says) && message.contains("write it like"),
                "{url}: {message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert_eq!(
            base_url(" http://127.0.0.1:8080/v1/ ").unwrap(),
            "http://127.0.0.1:8080/v1"
        );
    }

    #[test]
    fn a_key_with_a_line_end_is_refused_and_not_shown() {
        let settings = Settings {
            api_key: Some("sk-secret\n".into()),
            ..Settings::default()
        };
        let error = Endpoint::new(&settings).unwrap_err();
        assert!(error.message.contains("write the key alone"));
        assert!(!format!("{error:?}").contains("sk-secret"));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_by_name() {
        for (name, value) in [("x y", "v"), ("x-title", "a\nb")] {
            let headers = vec![(name.to_owned(), value.into())];
            let error = Endpoint::new(&Settings {
                headers,
                ..Settings::default()
            })
            .unwrap_err();
            assert!(
                error
                    .message
                    .contains(&format!("`{name}` is no HTTP header")),
                "{error}"
            );
        }
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let settings = Settings {
            api_key: Some("sk-secret".into()),
            headers: vec![("api-key".into(), "sk-secret".into())],
            ..Settings::default()
        };
        let endpoint = Endpoint::new(&settings).unwrap();
        assert!(!format!("{settings:?} {endpoint:?}").contains("sk-secret"));
    }
}
