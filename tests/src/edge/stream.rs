//! A client of server-sent events, by the standard's rules and over nothing but TCP.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::edge::Line;
use crate::wait::DEADLINE;

/// A stream of events.
#[derive(Debug)]
pub struct Stream {
    line: Line,
    /// As it came, still in chunks.
    raw: Vec<u8>,
    /// What is still to come of a body that is not in chunks.
    rest: Option<usize>,
    /// The events' text that is not an event yet.
    text: Vec<u8>,
    /// The head of the response.
    pub head: String,
    last_id: String,
    /// When to come back, in ms.
    pub retry: Option<u64>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub event: String,
    /// The last id up to and with this event.
    pub id: String,
    pub data: Value,
}

impl Stream {
    /// The events of a story from a cursor on.
    ///
    /// # Errors
    /// When the connection ends before the response begins.
    pub async fn open(
        address: SocketAddr,
        story: &str,
        token: &str,
        cursor: Option<&str>,
    ) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(cursor.map(|cursor| ("last-event-id", cursor)));
        let path = format!("/v1/stories/{story}/stream");
        Self::ask(address, &path, &headers).await
    }

    /// # Errors
    /// When the connection ends before the response begins.
    pub async fn ask(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut line = Line::connect(address).await?;
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        line.write_all(format!("{request}\r\n").as_bytes()).await?;
        let mut stream = Self {
            line,
            raw: Vec::new(),
            rest: None,
            text: Vec::new(),
            head: String::new(),
            last_id: String::new(),
            retry: None,
        };
        timeout(DEADLINE, stream.read_head()).await??;
        Ok(stream)
    }

    async fn read_head(&mut self) -> anyhow::Result<()> {
        let end = loop {
            if let Some(end) = find(&self.raw, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        self.head = String::from_utf8(self.raw.drain(..end).collect())?.to_lowercase();
        let length = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        self.rest = length.map(str::parse).transpose()?;
        Ok(())
    }

    /// The next event; `None` when the stream ended in order. Cancel-safe.
    ///
    /// # Errors
    /// An I/O error when the connection ends before the stream does; others when what comes is no such stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Sent>> {
        loop {
            while let Some(end) = find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(sent) = self.event(std::str::from_utf8(&block)?)? {
                    return Ok(Some(sent));
                }
            }
            match self.chunk()? {
                Some(true) => {}
                Some(false) => return Ok(None),
                None => self.more().await?,
            }
        }
    }

    /// The next event that is as wanted; others are passed over.
    ///
    /// # Errors
    /// When the stream ends before, or it does not come in time.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Sent) -> bool,
    ) -> anyhow::Result<Sent> {
        let search = async {
            while let Some(sent) = self.next().await? {
                if wanted(&sent) {
                    return Ok(sent);
                }
            }
            bail!("the stream ended: {what}")
        };
        timeout(DEADLINE, search)
            .await
            .with_context(|| format!("not in time: {what}"))?
    }

    /// Lets so many more bytes come.
    pub fn allow(&mut self, bytes: usize) {
        self.line.allow(bytes);
    }

    /// Whether the last event came in part only.
    #[must_use]
    pub fn is_in_frame(&self) -> bool {
        !self.raw.is_empty() || !self.text.is_empty()
    }

    /// The connection.
    #[must_use]
    pub fn into_line(self) -> Line {
        self.line
    }

    async fn more(&mut self) -> std::io::Result<()> {
        match self.line.read_buf(&mut self.raw).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes one chunk out of its frame: false at the last one, `None` while it is not whole.
    fn chunk(&mut self) -> anyhow::Result<Option<bool>> {
        if let Some(rest) = &mut self.rest {
            let bytes = self.raw.len().min(*rest);
            *rest -= bytes;
            let is_over = *rest == 0 && bytes == 0;
            self.text.extend(self.raw.drain(..bytes));
            return Ok((bytes > 0 || is_over).then_some(!is_over));
        }
        let Some(line) = find(&self.raw, b"\r\n") else {
            return Ok(None);
        };
        let size = std::str::from_utf8(&self.raw[..line])?;
        let size = usize::from_str_radix(size, 16).context("the size of a chunk")?;
        let (begin, end) = (line + 2, line + 2 + size);
        if self.raw.len() < end + 2 {
            return Ok(None);
        }
        ensure!(self.raw[end..end + 2] == *b"\r\n", "a chunk without an end");
        self.text.extend_from_slice(&self.raw[begin..end]);
        self.raw.drain(..end + 2);
        Ok(Some(size > 0))
    }

    fn event(&mut self, block: &str) -> anyhow::Result<Option<Sent>> {
        let (mut event, mut data) = (String::new(), Vec::new());
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event),
                "id" => value.clone_into(&mut self.last_id),
                "data" => data.push(value),
                "retry" => self.retry = Some(value.parse()?),
                _ => {}
            }
        }
        if data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Sent {
            event,
            id: self.last_id.clone(),
            data: serde_json::from_str(&data.join("\n"))?,
        }))
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
