//! A provider whose every byte a test decides: what the mock cannot say, or must not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio_util::task::TaskTracker;

/// One answer: its bytes, and what becomes of the connection.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Keep,
    Close,
    Hang,
}

#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) url: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
    hung_up: Notify,
}

impl Provider {
    /// `answer` gets the number of the request, from 0.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), answer).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::<Seen>::default();
        let provider = Self {
            url,
            seen: Arc::clone(&seen),
        };
        let answer = Arc::new(answer);
        let tasks = TaskTracker::new();
        tasks.clone().spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tasks.spawn(async move { serve(socket, &seen, &*answer).await });
            }
        });
        provider
    }

    pub(crate) async fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().await.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Until the client closes a connection that hangs.
    pub(crate) async fn hung_up(&self) {
        self.seen.hung_up.notified().await;
    }
}

impl Answer {
    fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self {
            bytes: bytes.into(),
            then,
        }
    }

    /// An event stream of these frames; the body is left open.
    pub(crate) fn events(frames: &[&str]) -> Self {
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for frame in frames {
            let event = format!("data: {frame}\n\n");
            bytes.extend(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
        }
        Self::new(bytes, Then::Keep)
    }

    /// A whole answer with a status line's end, headers and a body.
    pub(crate) fn plain(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::new(
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"),
            Then::Keep,
        )
    }

    pub(crate) fn json(body: &str) -> Self {
        Self::plain("200 OK", "content-type: application/json\r\n", body)
    }

    pub(crate) fn nothing() -> Self {
        Self::bytes("")
    }

    pub(crate) fn bytes(bytes: &str) -> Self {
        Self::new(bytes, Then::Keep)
    }

    pub(crate) fn without_last_byte(mut self) -> Self {
        self.bytes.pop();
        self
    }

    /// Ends the chunked body properly.
    pub(crate) fn ended(mut self) -> Self {
        self.bytes.extend(b"0\r\n\r\n");
        self
    }

    pub(crate) fn cut(self) -> Self {
        Self {
            then: Then::Close,
            ..self
        }
    }

    pub(crate) fn hangs(self) -> Self {
        Self {
            then: Then::Hang,
            ..self
        }
    }
}

async fn serve(
    mut socket: TcpStream,
    seen: &Seen,
    answer: &(dyn Fn(usize) -> Answer + Send + Sync),
) {
    while let Some(request) = read_request(&mut socket).await {
        let number = {
            let mut requests = seen.requests.lock().await;
            requests.push(request);
            requests.len() - 1
        };
        let answer = answer(number);
        if socket.write_all(&answer.bytes).await.is_err() {
            return;
        }
        match answer.then {
            Then::Keep => {}
            Then::Close => return,
            Then::Hang => {
                let more = socket.read(&mut [0]).await;
                assert!(
                    !matches!(more, Ok(1..)),
                    "a client speaks only when it is its turn"
                );
                seen.hung_up.notify_one();
                return;
            }
        }
    }
}

/// Head and body as text; none when the client is gone.
async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    loop {
        if socket.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
    }
}
