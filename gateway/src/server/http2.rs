//! HTTP/2, where TLS has agreed on it. Each answer is a task of its own, with an end of its own: a client that reads the
//! connection and takes nothing of one answer keeps that one no longer than a client of HTTP/1.1 may keep a connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::{HEADERS, Host};
use crate::entrance::{Peer, Shared};

/// Answers at the same time.
const STREAMS: u32 = 64;
/// What headers may have.
const MAX_HEADERS: u32 = 16 * 1_024;
/// What may come unread: as much as a body may have.
const WINDOW: u32 = 65_535;
/// What waits to be written, of one answer.
const WAITING: usize = 64 * 1_024;
/// How often a connection is asked whether somebody is there, and how long an answer to that may take.
const PING: Duration = Duration::from_secs(20);

pub(super) async fn serve<S>(stream: S, patience: Duration, host: Host)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Host {
        peer,
        router,
        room,
        ends,
    } = host;
    let shared = Shared::new(room);
    let streams = Streams {
        tasks: TaskTracker::new(),
        begun: Arc::default(),
        gone: CancellationToken::new(),
        patience,
    };
    let service = service_fn(move |request| {
        let mut request = with_host(request);
        let known = request.extensions_mut();
        known.insert(Peer(peer));
        known.insert(shared.clone());
        router.clone().call(request)
    });
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WAITING)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = Box::pin(connection);
    let served = async {
        tokio::select! {
            served = &mut connection => return served,
            () = ends.drain.cancelled() => {}
            () = streams.unused() => {}
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            served = &mut connection => served,
            // It does not hear that it should go.
            () = streams.unused() => Ok(()),
        }
    };
    if let Some(Err(error)) = ends.end.run_until_cancelled(served).await {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(connection);
    streams.end().await;
}

/// What looks at where a request was sent to finds it as HTTP/1.1 says it.
fn with_host(mut request: Request<Incoming>) -> Request<Incoming> {
    let authority = request.uri().authority();
    let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(header::HOST, host);
    }
    request
}

/// The answers under way on one connection.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    /// How many there ever were.
    begun: Arc<AtomicU64>,
    gone: CancellationToken,
    patience: Duration,
}

impl Streams {
    /// Waits until there was none for a while, as long as one of HTTP/1.1 may wait for its next.
    async fn unused(&self) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            let was_empty = self.tasks.is_empty();
            sleep(HEADERS).await;
            if was_empty && self.begun.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    async fn end(&self) {
        self.gone.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let (gone, patience) = (self.gone.clone(), self.patience);
        self.tasks.spawn(async move {
            let attended = attended(stream, patience);
            gone.run_until_cancelled(attended).await;
        });
    }
}

/// Drops what nothing has woken for so long: neither an answer that had more to say, nor its client that made room for it.
async fn attended(stream: impl Future<Output = ()>, patience: Duration) {
    let (mut stream, mut over) = (pin!(stream), pin!(sleep(patience)));
    poll_fn(|context| {
        if over.as_mut().poll(context).is_ready() {
            tracing::debug!("a client took nothing of an answer any more");
            return Poll::Ready(());
        }
        let polled = stream.as_mut().poll(context);
        over.as_mut().reset(Instant::now() + patience);
        polled
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_when_nothing_has_woken_it_for_its_time() {
        let start = Instant::now();
        attended(pending(), PATIENCE).await;
        assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
        // One that says something now and then goes on.
        let beats = async {
            for _ in 0..10 {
                sleep(PATIENCE - Duration::from_secs(1)).await;
            }
            pending::<()>().await;
        };
        let start = Instant::now();
        let ended = timeout(20 * PATIENCE, attended(beats, PATIENCE)).await;
        assert!(ended.is_ok() && start.elapsed() > 10 * (PATIENCE - Duration::from_secs(1)));
    }
}
