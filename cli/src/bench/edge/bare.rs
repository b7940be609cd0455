//! The bare server: axum, WebSocket and server-sent events, served as the gateway serves HTTP/1, with its buffers and its
//! heartbeat. It passes what comes in for a story on to whoever reads it, and knows no tokens, no places, no history, no
//! Redis, and no bounds on connections.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, interval_at};
use tokio_util::task::TaskTracker;

/// As the gateway has them: of a connection (gateway/src/server.rs), and of a socket (gateway/src/socket/guest.rs).
const HEADERS: Duration = Duration::from_secs(10);
const BUFFER: usize = 16 * 1_024;
const READ_BUFFER: usize = 512;
const WRITE_BUFFER: usize = 4 * 1_024;
const MAX_WRITE_BUFFER: usize = 4 * story::MAX_EVENT_BYTES;
/// As the gateway has them for a reader.
const QUEUE: usize = 64;
const PING: Duration = Duration::from_secs(15);

/// What goes to the readers of each story.
#[derive(Clone, Default)]
struct Stories(Arc<Mutex<HashMap<String, broadcast::Sender<Utf8Bytes>>>>);

impl Stories {
    fn of(&self, story: &str) -> broadcast::Sender<Utf8Bytes> {
        let mut stories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = stories.entry(story.to_owned());
        sender
            .or_insert_with(|| broadcast::Sender::new(QUEUE))
            .clone()
    }
}

pub(super) async fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let connections = TaskTracker::new();
    let router = Router::new()
        .route("/in/{story}", get(take))
        .route("/ws/{story}", get(socket))
        .route("/sse/{story}", get(events))
        .with_state(Stories::default());
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(connection(stream, router.clone()));
    }
}

/// As the gateway serves one without TLS.
async fn connection(stream: TcpStream, router: Router) {
    // Whoever is gone already is found out when they are read from.
    let _is_gone = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(BUFFER)
        .writev(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // A reader may end it at any time.
    let _is_cut = Box::pin(connection).await;
}

async fn take(
    State(stories): State<Stories>,
    Path(story): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let readers = stories.of(&story);
    upgrade.on_upgrade(async move |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                // Nobody may be reading.
                let _unread = readers.send(text);
            }
        }
    })
}

async fn socket(
    State(stories): State<Stories>,
    Path(story): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let feed = stories.of(&story).subscribe();
    let upgrade = upgrade
        .protocols([super::client::SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(MAX_WRITE_BUFFER);
    upgrade.on_upgrade(move |socket| pass(socket, feed))
}

async fn pass(mut socket: WebSocket, mut feed: broadcast::Receiver<Utf8Bytes>) {
    let mut ping = interval_at(Instant::now() + PING, PING);
    loop {
        let message = tokio::select! {
            heard = socket.recv() => match heard {
                Some(Ok(_)) => continue,
                _ => return,
            },
            text = feed.recv() => match text {
                Ok(text) => Message::Text(text),
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn events(State(stories): State<Stories>, Path(story): Path<String>) -> Response {
    let feed = stories.of(&story).subscribe();
    let ping = interval_at(Instant::now() + PING, PING);
    let chunks = stream::unfold((feed, ping), async |(mut feed, mut ping)| {
        loop {
            let chunk = tokio::select! {
                text = feed.recv() => match text {
                    Ok(text) => Bytes::from(format!("data: {text}\n\n")),
                    Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
                _ = ping.tick() => Bytes::from_static(b":\n\n"),
            };
            return Some((Ok::<_, Infallible>(chunk), (feed, ping)));
        }
    });
    let headers = [("content-type", "text/event-stream")];
    (headers, Body::from_stream(chunks)).into_response()
}
