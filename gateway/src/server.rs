//! The accept loop: bounded connections, bounded headers, and an end that waits for what runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// From the first byte of a request to the last of its headers.
const HEADERS: Duration = Duration::from_secs(10);
/// What headers may have, and what is read at once. Each connection has as much.
const BUFFER: usize = 16 * 1_024;
/// After a connection could not be taken: file descriptors are short, and it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `drain`, then waits for its connections up to `limit` and drops the rest.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: usize,
    (drain, limit): (CancellationToken, Duration),
) {
    let (room, tasks) = (Arc::new(Semaphore::new(connections)), TaskTracker::new());
    let end = CancellationToken::new();
    while let Some(accepted) = drain.run_until_cancelled(accept(&listener, &room)).await {
        let Some((stream, place)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let (router, drain) = (router.clone(), drain.clone());
        let served = connection(stream, router, (drain, end.clone()), place);
        tasks.spawn(served);
    }
    drop(listener);
    tasks.close();
    if timeout(limit, tasks.wait()).await.is_err() {
        tracing::warn!("the drain limit has passed");
    }
    end.cancel();
    tasks.wait().await;
}

/// The next connection for which there is room: the others wait in the system's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "a connection was not accepted");
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    (drain, end): (CancellationToken, CancellationToken),
    place: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it was served");
        return;
    }
    // A socket outlives its request, and takes its place with it.
    let place = Arc::new(place);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&place));
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        // What is written is small: it is copied together, and no connection keeps a queue of pieces.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // In a box: a task has room for what it holds each time that it is handed on.
    let mut connection = Box::pin(connection);
    let served = async {
        tokio::select! {
            served = &mut connection => served,
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    };
    if let Some(Err(error)) = end.run_until_cancelled(served).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
