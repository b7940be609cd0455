//! One who reads an answer while others do their worst, and must have it whole, as it was written.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use system_tests::edge::{Heard, Socket, Stream};
use tokio::time::{Instant, timeout};

/// One who is in the story and reads an answer by its deltas.
#[derive(Default)]
pub(super) struct Undisturbed {
    text: String,
    next: u64,
}

impl Undisturbed {
    /// Gives the time of the answer's commit, once it is there.
    fn take(&mut self, frame: &Value) -> anyhow::Result<Option<Instant>> {
        match frame["t"].as_str().context("t")? {
            "delta" => {
                ensure!(frame["i"].as_u64() == Some(self.next), "{frame}");
                self.text += frame["text"].as_str().context("text")?;
                self.next += frame["n"].as_u64().context("n")?;
            }
            "event" if frame["event"]["type"] == "narration" => {
                ensure!(
                    frame["event"]["text"] == self.text,
                    "{frame}: {}",
                    self.text
                );
                ensure!(self.next > 300, "{} chunks", self.next);
                return Ok(Some(Instant::now()));
            }
            "event" | "ok" | "welcome" => {}
            // Once, when they had joined.
            "live" if self.text.is_empty() => {}
            "presence" => {}
            _ => anyhow::bail!("{frame} came between"),
        }
        Ok(None)
    }

    /// Reads to the end; gives its time.
    pub(super) async fn over_socket(mut self, mut socket: Socket) -> anyhow::Result<Instant> {
        loop {
            match timeout(Duration::from_secs(30), socket.hear()).await?? {
                Heard::Message(frame) => {
                    if let Some(end) = self.take(&frame)? {
                        return Ok(end);
                    }
                }
                Heard::Closed(code, reason) => anyhow::bail!("closed with {code} {reason}"),
            }
        }
    }

    /// Reads to the end; gives its time.
    pub(super) async fn over_stream(mut self, mut stream: Stream) -> anyhow::Result<Instant> {
        loop {
            let sent = timeout(Duration::from_secs(30), stream.next()).await??;
            let sent = sent.context("the stream ended")?;
            if let Some(end) = self.take(&sent.data)? {
                return Ok(end);
            }
        }
    }
}
