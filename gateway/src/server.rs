//! The accept loop: bounded connections, bounded headers, and an end that waits for what runs.

mod http2;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::entrance::{Entered, Entrance, Peer};
use crate::link::Link;
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::tls::{HTTP2, Tls};

/// From the first byte of a request to the last of its headers.
const HEADERS: Duration = Duration::from_secs(10);
/// From a connection's begin to the end of the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What headers may have, and what is read at once. Each connection has as much.
const BUFFER: usize = 16 * 1_024;
/// After a connection could not be taken: file descriptors are short, and it is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// How often it is logged that none can be taken: it is found anew each time.
const MINUTE: Duration = Duration::from_secs(60);

/// What a connection has taken until it is gone.
type Places = (OwnedSemaphorePermit, Entered);

/// What connections may take.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// At the same time; more wait.
    pub(crate) connections: usize,
    /// Of one address.
    pub(crate) entrance: Entrance,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
    /// How long a write may wait for its client to read.
    pub(crate) stuck: Duration,
    /// How often an answer that goes on has something to say, at least.
    pub(crate) beat: Duration,
}

/// How a node ends.
pub(crate) struct Drain {
    /// No connection is taken any more, and those that there are are asked to end.
    pub(crate) begun: CancellationToken,
    /// What they are given for it.
    pub(crate) limit: Duration,
}

/// How a connection ends.
struct Ends {
    /// It is asked to.
    drain: CancellationToken,
    /// It is dropped.
    end: CancellationToken,
}

/// What a connection is served with.
struct Host {
    /// Whom it is from.
    peer: IpAddr,
    router: Router,
    /// Of the node, for what counts as one more connection.
    room: Arc<Semaphore>,
    ends: Ends,
}

/// A connection's bytes, and its places.
type Held = Link<TcpStream, Places>;

/// Serves until it is to drain, then waits for its connections up to the limit and drops the rest.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    bounds: Bounds,
    drain: Drain,
) {
    let Drain { begun, limit } = drain;
    let room = Arc::new(Semaphore::new(bounds.connections));
    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    let told = Seldom::new(MINUTE);
    let next = async || accept(&listener, (&room, &told)).await;
    while let Some(accepted) = begun.run_until_cancelled(next()).await {
        let Some((stream, peer, place)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it was served");
            continue;
        }
        let Some(entered) = bounds.entrance.enter(peer) else {
            // Words in the clear are none where TLS is spoken.
            if tls.is_none() {
                tasks.spawn(bounds.entrance.clone().turn_away(stream));
            }
            continue;
        };
        let host = Host {
            peer,
            router: router.clone(),
            room: Arc::clone(&room),
            ends: Ends {
                drain: begun.clone(),
                end: end.clone(),
            },
        };
        // A socket outlives its request, and takes its place with it.
        let link = Link::new(stream, bounds.stuck, (place, entered));
        match tls.clone() {
            None => tasks.spawn(http1(link, host)),
            Some(tls) => {
                let metrics = bounds.metrics.clone();
                tasks.spawn(secured(
                    (tls, metrics),
                    link,
                    bounds.stuck + bounds.beat,
                    host,
                ))
            }
        };
    }
    drop(listener);
    tasks.close();
    // An upgraded connection is no task of ours any more: it is gone when its place is free.
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    let gone = async {
        tasks.wait().await;
        room.acquire_many(all).await.map(drop)
    };
    if timeout(limit, gone).await.is_err() {
        tracing::warn!("the drain limit has passed");
    }
    end.cancel();
    tasks.wait().await;
}

/// The next connection for which there is room: the others wait in the system's queue. Its place is kept while there is
/// none, so that streams which count as connections leave one to whoever comes.
async fn accept(
    listener: &TcpListener,
    (room, told): (&Arc<Semaphore>, &Seldom),
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer.ip(), place)),
        Err(error) => {
            if told.is_due() {
                tracing::warn!(%error, "a connection was not accepted");
            }
            None
        }
    }
}

/// With TLS around it. Nobody waits for another's handshake.
async fn secured((tls, metrics): (Tls, Metrics), link: Held, patience: Duration, host: Host) {
    let accepted = timeout(HANDSHAKE, Box::pin(tls.acceptor().accept(link)));
    let Some(accepted) = host.ends.drain.run_until_cancelled(accepted).await else {
        return;
    };
    metrics.tls.handshake(match &accepted {
        Ok(Ok(_)) => "ok",
        Ok(Err(_)) => "failed",
        Err(_) => "late",
    });
    match accepted {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => {
            http2::serve(stream, patience, host).await;
        }
        Ok(Ok(stream)) => http1(stream, host).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not come to TLS"),
        Err(_) => tracing::debug!("a connection did not come to TLS in time"),
    }
}

async fn http1<S>(stream: S, host: Host)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Host {
        peer, router, ends, ..
    } = host;
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
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
            () = ends.drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        }
    };
    if let Some(Err(error)) = ends.end.run_until_cancelled(served).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::ws::WebSocketUpgrade;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::address::Proxies;

    const HANDSHAKE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[tokio::test]
    async fn it_is_not_over_before_its_sockets_are() {
        let (drain, lets_go) = (CancellationToken::new(), CancellationToken::new());
        let held = lets_go.clone();
        let router = Router::new().route(
            "/",
            get(async move |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(async move |_socket| held.cancelled().await)
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bounds = Bounds {
            connections: 8,
            entrance: Entrance::new(1_000, Proxies::default(), Metrics::new().refused),
            metrics: Metrics::new(),
            stuck: Duration::from_secs(20),
            beat: Duration::from_secs(15),
        };
        let ends = Drain {
            begun: drain.clone(),
            limit: Duration::from_secs(20),
        };
        let mut served = Box::pin(serve(listener, None, router, bounds, ends));
        let opened = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(HANDSHAKE).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 101");
            stream
        };
        let _stream = tokio::select! {
            stream = opened => stream,
            () = &mut served => panic!("it ended by itself"),
        };
        drain.cancel();
        let waited = timeout(Duration::from_millis(300), &mut served).await;
        assert!(waited.is_err(), "a socket was left behind");
        lets_go.cancel();
        let ended = timeout(Duration::from_secs(10), served).await;
        assert!(ended.is_ok(), "nobody was there any more");
    }
}
