//! What waits to be written to a socket. Nothing else waits for it: whoever reads slowly, or not at all, is still told that
//! their token is over.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures::SinkExt;
use futures::stream::SplitSink;
use tokio::time::Instant;

/// What is written since there was last nothing to write has so long to get out.
const STUCK: Duration = Duration::from_secs(10);

pub(super) struct Outbox {
    sink: SplitSink<WebSocket, Message>,
    waiting: VecDeque<Message>,
    /// When all must be out; nothing when it is.
    until: Option<Instant>,
}

impl Outbox {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>) -> Self {
        Self {
            sink,
            waiting: VecDeque::new(),
            until: None,
        }
    }

    pub(super) fn push(&mut self, message: Message) {
        self.until.get_or_insert_with(|| Instant::now() + STUCK);
        self.waiting.push_back(message);
    }

    /// Those that are not begun.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_out(&self) -> bool {
        self.until.is_none()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// When it is stuck, or `later`.
    pub(super) fn wake(&self, later: Instant) -> Instant {
        self.until.map_or(later, |until| until.min(later))
    }

    /// Takes back what is not begun.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Writes until all is out. Cancel-safe.
    pub(super) async fn write(&mut self) -> Result<(), axum::Error> {
        while !self.waiting.is_empty() {
            poll_fn(|context| self.sink.poll_ready_unpin(context)).await?;
            if let Some(message) = self.waiting.pop_front() {
                self.sink.start_send_unpin(message)?;
            }
        }
        self.flush().await?;
        self.until = None;
        // Most sockets are quiet most of the time.
        self.waiting = VecDeque::new();
        Ok(())
    }

    /// What the socket answers by itself, too.
    pub(super) async fn flush(&mut self) -> Result<(), axum::Error> {
        self.sink.flush().await
    }
}
