//! The HTTP layer under async-openai: one request per call, no retry of its own, errors that keep what
//! its own layer drops (status, Retry-After, how a body ended), and bodies that cannot grow without bound.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_openai::middleware::HttpRequestFactory;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Body, Request, Response};

use crate::tape::Heard;
use crate::{Class, Error, refusal};

/// The `accept` header that marks a request whose answer is streamed.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// What is read of the body of a refusal.
const MAX_REFUSAL: usize = 16 << 10;

/// The service of one try.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) client: reqwest::Client,
    pub(crate) max_answer_bytes: usize,
    pub(crate) ending: Ending,
    /// Where the try is written down, or played from.
    pub(crate) heard: Option<Heard>,
}

/// How the body of a streamed answer ended, when not by `[DONE]`. async-openai ends a stream alike on
/// `[DONE]` and on a body that just ends, and keeps of a body's error only a text that says nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending(Arc<Mutex<Option<Error>>>);

impl Ending {
    pub(crate) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl tower::Service<HttpRequestFactory> for Http {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let http = self.clone();
        Box::pin(async move {
            let request = factory.build().await?;
            let streams = request
                .headers()
                .get(ACCEPT)
                .is_some_and(|kind| kind == EVENT_STREAM);
            let answer = http.send(request).await?;
            if !answer.status().is_success() {
                Err(http.refused(answer).await)
            } else if !streams {
                http.whole(answer).await
            } else if is_event_stream(answer.headers()) {
                Ok(http.streamed(answer))
            } else {
                Err(http.no_stream(answer).await)
            }
        })
    }
}

impl Http {
    async fn send(&self, request: Request) -> Result<Response, Error> {
        let played = self.heard.as_ref().and_then(Heard::play);
        let answer = match played {
            Some(played) => played?,
            None => self.client.execute(request).await.map_err(transport)?,
        };
        self.heard.iter().for_each(|heard| heard.status(&answer));
        Ok(answer)
    }

    /// The same answer with a body that counts its bytes and tells `ending` how it ended.
    fn streamed(self, answer: Response) -> Response {
        let limit = self.max_answer_bytes;
        let mut left = limit;
        let mut pass = move |chunk: Option<reqwest::Result<Bytes>>| {
            let failure = match chunk {
                Some(Ok(chunk)) => match left.checked_sub(chunk.len()) {
                    Some(rest) => {
                        left = rest;
                        self.heard.iter().for_each(|heard| heard.piece(&chunk));
                        return Some(Ok::<_, Infallible>(chunk));
                    }
                    None => oversize(limit),
                },
                Some(Err(error)) => transport(error),
                None => {
                    self.heard.iter().for_each(Heard::ended);
                    Error::new(Class::Truncated, "the answer ended too early")
                }
            };
            self.ending.set(failure);
            None
        };
        let chunks = answer
            .bytes_stream()
            .map(Some)
            .chain(stream::once(future::ready(None)));
        let chunks = chunks.scan((), move |(), chunk| future::ready(pass(chunk)));
        http::Response::new(Body::wrap_stream(chunks)).into()
    }

    /// The same answer, read to its end.
    async fn whole(&self, answer: Response) -> Result<Response, Error> {
        let limit = self.max_answer_bytes;
        let body = self.read(answer, limit).await?;
        if body.len() > limit {
            return Err(oversize(limit));
        }
        Ok(http::Response::new(body.freeze()).into())
    }

    /// An error that some servers send with status 200, a web page, or a whole answer where a stream was asked for.
    async fn no_stream(&self, answer: Response) -> Error {
        let body = match self.read(answer, MAX_REFUSAL).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(body) if body.get("error").is_some() => refusal::of_frame(&body["error"]),
            _ => Error::new(
                Class::Provider,
                "the provider did not answer with an event stream: is the base URL right?",
            ),
        }
    }

    async fn refused(&self, answer: Response) -> Error {
        let status = answer.status();
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        let moved = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok())
            .map(str::to_owned);
        let body = match self.read(answer, MAX_REFUSAL).await {
            Ok(body) => body,
            // How the try failed then, perhaps before this body had ended.
            Err(failed) if self.heard.as_ref().is_some_and(Heard::plays) => return failed,
            // The status alone is enough to go on with: a body that breaks off takes nothing away from it.
            Err(_) => BytesMut::new(),
        };
        let mut error = refusal::of_answer(status.as_u16(), &body);
        if let Some(to) = moved.filter(|_| status.is_redirection()) {
            error.message = format!(
                "the provider redirects ({status}) to {to}: write the new address as the base URL"
            );
        }
        error.retry_after = retry_after;
        error
    }

    /// The body up to the chunk that passes `limit`.
    async fn read(&self, mut answer: Response, limit: usize) -> Result<BytesMut, Error> {
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            self.heard.iter().for_each(|heard| heard.piece(&chunk));
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                break;
            }
        }
        self.heard.iter().for_each(Heard::ended);
        Ok(body)
    }
}

/// The class of an error below HTTP. Of the URL only the origin is told.
pub(crate) fn transport(error: reqwest::Error) -> Error {
    if let Some(played) = played(&error) {
        return played;
    }
    let place = error.url().map(|url| url.origin().ascii_serialization());
    let place = place.as_deref().unwrap_or("the provider");
    let (class, what) = if error.is_builder() {
        (
            Class::Request,
            format!("the request to {place} cannot be built"),
        )
    } else if error.is_body() || error.is_decode() {
        (Class::Truncated, "the answer was cut".to_owned())
    } else if error.is_connect() {
        (
            Class::Connect,
            format!("cannot connect to {place} (is the model's URL right, and is it up?)"),
        )
    } else {
        // It may have had the request, be at work on it and charge for it, or have died of it.
        (
            Class::Truncated,
            format!("{place} hung up before it answered"),
        )
    };
    let error = error.without_url();
    Error::new(class, format!("{what}: {}", root_cause(&error))).with_source(error)
}

/// What broke a body off that is played.
fn played(error: &reqwest::Error) -> Option<Error> {
    let mut cause = error.source();
    while let Some(deeper) = cause {
        if let Some(ours) = deeper.downcast_ref::<Error>() {
            return Some(Error::new(ours.class, ours.message.clone()));
        }
        cause = deeper.source();
    }
    None
}

fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A server that names no content type is believed to stream.
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_none_or(|kind| {
        let wanted = EVENT_STREAM.as_bytes();
        kind.as_bytes()
            .get(..wanted.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(wanted))
    })
}

fn oversize(limit: usize) -> Error {
    Error::new(
        Class::Provider,
        format!("the answer is larger than {limit} bytes"),
    )
}

/// `retry-after-ms`, else `Retry-After` in seconds or as a date. A date gone by is no wait.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    let wait = text(RETRY_AFTER.as_str())?;
    match wait.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let until = httpdate::parse_http_date(wait).ok()?;
            Some(until.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        retry_after(&headers.collect(), now)
    }

    #[test]
    fn retry_after_is_read_in_seconds_milliseconds_and_as_a_date() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(
            wait(&[("retry-after", "0.5")]),
            Some(Duration::from_millis(500))
        );
        assert_eq!(
            wait(&[("retry-after-ms", "1250"), ("retry-after", "9")]),
            Some(Duration::from_millis(1250))
        );
        assert_eq!(
            wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            wait(&[("retry-after", "Sun, 06 Nov 1994 08:49:20 GMT")]),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_retry_after_that_says_nothing_is_none() {
        assert_eq!(wait(&[]), None);
        for nonsense in ["soon", "-1", "inf", "NaN", "1e300"] {
            assert_eq!(wait(&[("retry-after", nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn only_an_event_stream_is_streamed() {
        let kind = |kind| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        assert!(is_event_stream(&kind("Text/Event-Stream; charset=utf-8")));
        assert!(is_event_stream(&HeaderMap::new()));
        assert!(!is_event_stream(&kind("text/html")));
        assert!(!is_event_stream(&kind("application/json")));
    }
}
