//! One GET of a JWKS, with bounds on everything that its server decides.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use http::StatusCode;
use reqwest::{Client, Url, redirect};

/// The longest answer, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// How often it may be redirected.
const MAX_REDIRECTS: usize = 3;

/// Why it is not a place to fetch keys from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    #[error("write the whole URL, as in https://issuer.example/.well-known/jwks.json")]
    NotUrl,
    #[error(
        "keys that anybody on the way could change are no keys: use https (http only on this machine)"
    )]
    Plain,
    #[error("keys are public: leave the user name and the password out")]
    Login,
}

/// Where an issuer publishes its keys: https, or http on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// Why no keys came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the request failed")]
    Request(#[source] reqwest::Error),
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the answer has more than {MAX_BYTES} bytes")]
    Large,
}

impl FromStr for JwksUrl {
    type Err = JwksUrlError;

    fn from_str(text: &str) -> Result<Self, JwksUrlError> {
        let url = Url::parse(text).map_err(|_| JwksUrlError::NotUrl)?;
        if !url.has_host() {
            Err(JwksUrlError::NotUrl)
        } else if !url.username().is_empty() || url.password().is_some() {
            Err(JwksUrlError::Login)
        } else if !is_safe(&url) {
            Err(JwksUrlError::Plain)
        } else {
            Ok(Self(url))
        }
    }
}

/// For logs, without what may follow the path.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.0.origin().ascii_serialization();
        write!(f, "{origin}{}", self.0.path())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({self})")
    }
}

fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

/// Whether what is sent there stays on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// What fetches, each time within `timeout`, the body included.
pub(super) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    let policy = redirect::Policy::custom(|attempt| {
        let came_by = |from: &Url| from.scheme() == attempt.url().scheme();
        let is_alike = attempt.previous().last().is_some_and(came_by);
        if attempt.previous().len() > MAX_REDIRECTS || !is_alike || !is_safe(attempt.url()) {
            attempt.stop()
        } else {
            attempt.follow()
        }
    });
    Client::builder().timeout(timeout).redirect(policy).build()
}

pub(super) async fn fetch(client: &Client, url: &JwksUrl) -> Result<Vec<u8>, FetchError> {
    // The logs have the place already, and a query may hold what is no business of theirs.
    let failed = |error: reqwest::Error| FetchError::Request(error.without_url());
    let mut answer = client.get(url.0.clone()).send().await.map_err(failed)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::Large);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for url in [
            "https://issuer.example/jwks.json",
            "http://127.0.0.1:8080/jwks",
            "http://localhost/jwks",
            "http://[::1]:1/jwks",
        ] {
            assert!(url.parse::<JwksUrl>().is_ok(), "{url}");
        }
        for (url, refused) in [
            ("http://issuer.example/jwks.json", JwksUrlError::Plain),
            ("http://localhost.evil.example/", JwksUrlError::Plain),
            ("http://127.0.0.1.evil.example/", JwksUrlError::Plain),
            ("ftp://127.0.0.1/jwks", JwksUrlError::Plain),
            ("file:///etc/passwd", JwksUrlError::NotUrl),
            ("issuer.example/jwks", JwksUrlError::NotUrl),
            ("https://me:word@issuer.example/", JwksUrlError::Login),
        ] {
            assert_eq!(url.parse::<JwksUrl>(), Err(refused), "{url}");
        }
    }

    #[test]
    fn what_follows_the_path_stays_out_of_logs() {
        let url: JwksUrl = "https://issuer.example:8443/jwks?key=s3cr3t#s3cr3t"
            .parse()
            .unwrap();
        assert_eq!(url.to_string(), "https://issuer.example:8443/jwks");
        assert!(!format!("{url:?}").contains("s3cr3t"));
    }
}
