//! A WebSocket by the byte: what no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A connection after its handshake.
pub(crate) struct Raw {
    stream: TcpStream,
}

/// A frame that the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Raw {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /v1/ws HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(SOON, stream.read_u8()).await??);
        }
        let head = String::from_utf8(head)?.to_lowercase();
        ensure!(head.starts_with("http/1.1 101"), "{head}");
        // The sample of RFC 6455.
        ensure!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        ensure!(!head.contains("sec-websocket-extensions"), "{head}");
        let mut raw = Self { stream };
        let welcome = raw.message().await?;
        ensure!(welcome["t"] == "welcome", "{welcome}");
        Ok(raw)
    }

    /// The first bytes of the answer to any request.
    pub(crate) async fn answer(address: SocketAddr, request: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = vec![0; 256];
        let read = timeout(SOON, stream.read(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    }

    /// A frame whose first byte is `first`, masked as a client's.
    pub(crate) async fn send(&mut self, first: u8, payload: &[u8]) -> anyhow::Result<()> {
        self.write(&frame(first, payload)).await
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    pub(crate) async fn frame(&mut self) -> anyhow::Result<Frame> {
        timeout(SOON, self.read()).await.context("no frame came")?
    }

    async fn read(&mut self) -> anyhow::Result<Frame> {
        let (first, second) = (self.stream.read_u8().await?, self.stream.read_u8().await?);
        ensure!(first & 0xf0 == 0x80, "{first:#x} is not one whole frame");
        ensure!(second & 0x80 == 0, "a server's frame is not masked");
        let length = match second {
            126 => self.stream.read_u16().await?.into(),
            127 => usize::try_from(self.stream.read_u64().await?)?,
            short => short.into(),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        let opcode = first & 0x0f;
        Ok(Frame { opcode, payload })
    }

    pub(crate) async fn message(&mut self) -> anyhow::Result<Value> {
        let frame = self.frame().await?;
        ensure!(frame.opcode == TEXT, "{frame:?}");
        Ok(serde_json::from_slice(&frame.payload)?)
    }

    /// The code of the close frame, and whether nothing but the connection's end comes after it once it is answered.
    pub(crate) async fn closed(&mut self) -> anyhow::Result<u16> {
        let frame = loop {
            let frame = self.frame().await?;
            if frame.opcode == CLOSE {
                break frame;
            }
        };
        let [high, low, ..] = frame.payload[..] else {
            return Ok(1005);
        };
        let code = u16::from_be_bytes([high, low]);
        // It may be over on the other side already.
        let _is_over = self.send(0x80 | CLOSE, &code.to_be_bytes()).await;
        let mut rest = Vec::new();
        let end = timeout(SOON, self.stream.read_to_end(&mut rest)).await;
        let _by_reset = end.context("the connection stays after its end")?;
        ensure!(rest.is_empty(), "{rest:?} after the end");
        Ok(code)
    }

    /// Whether it answers still.
    pub(crate) async fn lives(&mut self) -> anyhow::Result<()> {
        self.send(0x80 | TEXT, br#"{"t":"ping","ref":77}"#).await?;
        let answer = self.message().await?;
        ensure!(answer["t"] == "ok" && answer["ref"] == 77, "{answer}");
        Ok(())
    }
}

pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap_or_default()),
        length @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap_or_default().to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend(u64::try_from(length).unwrap_or_default().to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}
