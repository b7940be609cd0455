//! A reader's connection, small enough that thousands of them do not disturb what they measure: it reads what comes into
//! one buffer and gives the messages that are in it.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(in crate::bench) const SUBPROTOCOL: &str = "storyfleet.v1";

/// What is read at once, at least.
const READ: usize = 2 * 1_024;

/// Frames of a client are masked; these by nothing.
const MASK: [u8; 4] = [0; 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Transport {
    Socket,
    Stream,
}

#[derive(Debug)]
pub(in crate::bench) struct Client {
    stream: TcpStream,
    transport: Transport,
    /// What came, and how much of it was taken.
    raw: Vec<u8>,
    taken: usize,
    /// Of a stream: what its chunks hold, and how much of that was given.
    text: Vec<u8>,
    given: usize,
}

/// Where a reader goes, and who they are.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Way<'a> {
    pub(in crate::bench) address: SocketAddr,
    pub(in crate::bench) token: &'a str,
}

impl Client {
    /// A socket that is in no story yet.
    pub(in crate::bench) async fn socket(way: Way<'_>) -> Result<Self, Error> {
        let bearer = format!("Authorization: Bearer {}\r\n", way.token);
        Self::ask(way.address, Transport::Socket, "/v1/ws", &bearer).await
    }

    /// Reads a story of the gateway, from a cursor on.
    pub(in crate::bench) async fn read(
        way: Way<'_>,
        transport: Transport,
        story: &str,
        cursor: Option<&str>,
    ) -> Result<Self, Error> {
        match transport {
            Transport::Socket => {
                let mut client = Self::socket(way).await?;
                let cursor = cursor.map_or_else(String::new, |at| format!(r#","cursor":"{at}""#));
                let join = format!(r#"{{"t":"join","story":"{story}"{cursor}}}"#);
                client.say(&join).await?;
                Ok(client)
            }
            Transport::Stream => {
                let mut headers = format!("Authorization: Bearer {}\r\n", way.token);
                if let Some(cursor) = cursor {
                    headers += &format!("Last-Event-ID: {cursor}\r\n");
                }
                let path = format!("/v1/stories/{story}/stream");
                Self::ask(way.address, transport, &path, &headers).await
            }
        }
    }

    /// The same of the bare server.
    pub(in crate::bench) async fn read_bare(
        address: SocketAddr,
        transport: Transport,
        story: &str,
    ) -> Result<Self, Error> {
        let path = match transport {
            Transport::Socket => format!("/ws/{story}"),
            Transport::Stream => format!("/sse/{story}"),
        };
        Self::ask(address, transport, &path, "").await
    }

    pub(in crate::bench) async fn ask(
        address: SocketAddr,
        transport: Transport,
        path: &str,
        headers: &str,
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            transport,
            raw: Vec::new(),
            taken: 0,
            text: Vec::new(),
            given: 0,
        };
        let (upgrade, status) = match transport {
            Transport::Socket => (
                format!(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
                ),
                "HTTP/1.1 101",
            ),
            Transport::Stream => (String::new(), "HTTP/1.1 200"),
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}{headers}\r\n");
        client.stream.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = find(&client.raw, b"\r\n\r\n") {
                if !client.raw.starts_with(status.as_bytes()) {
                    let head = String::from_utf8_lossy(&client.raw[..end]).into_owned();
                    return Err(Error::other(format!("{path}: {head}")));
                }
                client.taken = end + 4;
                return Ok(client);
            }
            client.fill().await?;
        }
    }

    /// The next message, as JSON.
    pub(in crate::bench) async fn next(&mut self) -> Result<&[u8], Error> {
        loop {
            match self.transport {
                Transport::Socket => {
                    if let Some(message) = self.frame()? {
                        return Ok(&self.raw[message]);
                    }
                }
                Transport::Stream => {
                    if let Some(data) = self.event()? {
                        return Ok(&self.text[data]);
                    }
                }
            }
            self.fill().await?;
        }
    }

    pub(in crate::bench) async fn say(&mut self, text: &str) -> Result<(), Error> {
        let mut frame = vec![0x81];
        match text.len() {
            short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap_or(0)),
            long => {
                frame.push(0x80 | 126);
                let length = u16::try_from(long).map_err(|_| Error::other("too long"))?;
                frame.extend(length.to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(text.as_bytes());
        self.stream.write_all(&frame).await
    }

    /// Ends it as it should be.
    pub(in crate::bench) async fn close(mut self) -> Result<(), Error> {
        if self.transport == Transport::Socket {
            let normal = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
            self.stream.write_all(&normal).await?;
        }
        self.stream.shutdown().await
    }

    /// Ends it with a reset, and leaves no trace in the system.
    pub(in crate::bench) fn cut(self) {
        // A connection that is over already needs none.
        let _is_over = self.stream.set_zero_linger();
    }

    async fn fill(&mut self) -> Result<(), Error> {
        self.raw.drain(..self.taken);
        self.taken = 0;
        self.raw.reserve(READ);
        match self.stream.read_buf(&mut self.raw).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// The text of the next frame; a ping is answered.
    fn frame(&mut self) -> Result<Option<Range<usize>>, Error> {
        while let Some((kind, payload)) = frame(&self.raw[self.taken..]) {
            let payload = self.taken + payload.start..self.taken + payload.end;
            self.taken = payload.end;
            match kind {
                1 => return Ok(Some(payload)),
                8 => {
                    let code = self.raw[payload].first_chunk().copied();
                    let code = code.map_or(1005, u16::from_be_bytes);
                    return Err(Error::other(format!("the socket was closed with {code}")));
                }
                // So little fits, or the connection is stuck and will be closed.
                9 => _ = self.stream.try_write(&[0x8a, 0x80, 0, 0, 0, 0]),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The data of the next event that has any.
    fn event(&mut self) -> Result<Option<Range<usize>>, Error> {
        self.text.drain(..self.given);
        self.given = 0;
        while let Some(line) = find(&self.raw[self.taken..], b"\r\n") {
            let size = std::str::from_utf8(&self.raw[self.taken..self.taken + line]);
            let size = size
                .ok()
                .and_then(|hex| usize::from_str_radix(hex, 16).ok());
            let size = size.ok_or_else(|| Error::other("a chunk without a size"))?;
            if size == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let begin = self.taken + line + 2;
            if self.raw.len() < begin + size + 2 {
                break;
            }
            self.text.extend(&self.raw[begin..begin + size]);
            self.taken = begin + size + 2;
        }
        while let Some(end) = find(&self.text[self.given..], b"\n\n") {
            let begin = self.given;
            self.given = begin + end + 2;
            let block = &self.text[begin..begin + end];
            let data = match block.strip_prefix(b"data: ") {
                Some(_) => Some(6),
                None => find(block, b"\ndata: ").map(|at| at + 7),
            };
            if let Some(data) = data {
                return Ok(Some(begin + data..begin + end));
            }
        }
        Ok(None)
    }
}

/// What kind of frame `bytes` begins with and where its payload is, if it is whole.
fn frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (kind, length) = (bytes.first()? & 0x0f, bytes.get(1)? & 0x7f);
    let (begin, length) = match length {
        126 => (4, u64::from(u16::from_be_bytes(*bytes[2..].first_chunk()?))),
        127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let end = begin + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some((kind, begin..end))
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_seen_once_it_is_whole() {
        assert_eq!(frame(&[0x81, 2, b'h', b'i', 0x89]), Some((1, 2..4)));
        assert_eq!(frame(&[0x89, 0]), Some((9, 2..2)));
        let mut long = vec![0x81, 126, 1, 0];
        assert_eq!(frame(&long), None);
        long.resize(260, b'x');
        assert_eq!(frame(&long), Some((1, 4..260)));
        for part in [&[][..], &[0x81], &[0x81, 2, b'h'], &[0x81, 127, 0]] {
            assert_eq!(frame(part), None);
        }
    }
}
