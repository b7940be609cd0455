//! A client of the WebSocket.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::edge::Line;
use crate::wait::DEADLINE;

#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<Line>,
    /// The bytes of all frames that came whole.
    whole: usize,
    /// What came before the answer that was asked for.
    unheard: VecDeque<Value>,
}

/// What comes over a socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    Message(Value),
    Closed(u16, String),
}

impl Socket {
    /// # Errors
    /// When the handshake fails.
    pub async fn open(address: SocketAddr, headers: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (socket, _) = Self::ask(address, "/v1/ws", headers).await?;
        Ok(socket)
    }

    /// With a token.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn open_as(address: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {token}");
        Self::open(address, &[("authorization", &bearer)]).await
    }

    /// The same with the answer to the handshake.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn ask(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(Self, Response)> {
        let line = Line::connect(address).await?;
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        let fields = request.headers_mut();
        fields.insert("sec-websocket-protocol", "storyfleet.v1".parse()?);
        for (name, value) in headers {
            fields.insert(name.parse::<reqwest::header::HeaderName>()?, value.parse()?);
        }
        let (stream, response) = timeout(DEADLINE, client_async(request, line)).await??;
        let unheard = VecDeque::new();
        let socket = Self {
            stream,
            whole: 0,
            unheard,
        };
        Ok((socket, response))
    }

    /// # Errors
    /// When the connection is over.
    pub async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        self.say_text(&message.to_string()).await
    }

    /// # Errors
    /// When the connection is over.
    pub async fn say_text(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// What comes next. Cancel-safe.
    ///
    /// # Errors
    /// An I/O error when the connection ends without a close frame; others when what comes breaks the protocol.
    pub async fn hear(&mut self) -> anyhow::Result<Heard> {
        match self.unheard.pop_front() {
            Some(message) => Ok(Heard::Message(message)),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> anyhow::Result<Heard> {
        loop {
            let next = self.stream.next().await;
            let message = next.unwrap_or(Err(Error::ConnectionClosed));
            let message = message.map_err(ended)?;
            self.whole += size(message.len());
            match message {
                Message::Text(text) => return Ok(Heard::Message(serde_json::from_str(&text)?)),
                Message::Close(frame) => {
                    let frame = frame.context("a close frame with its code")?;
                    return Ok(Heard::Closed(frame.code.into(), frame.reason.to_string()));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("{other:?} is no message of the protocol"),
            }
        }
    }

    /// The next message that is as wanted; others are passed over.
    ///
    /// # Errors
    /// When the socket is closed before, or it does not come in time.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let search = async {
            loop {
                match self.hear().await? {
                    Heard::Message(message) if wanted(&message) => return Ok(message),
                    Heard::Message(_) => {}
                    Heard::Closed(code, reason) => bail!("closed with {code} {reason}: {what}"),
                }
            }
        };
        timeout(DEADLINE, search)
            .await
            .with_context(|| format!("not in time: {what}"))?
    }

    /// Sends a message with a `ref` of its own and gives the answer to it; what comes before is heard later.
    ///
    /// # Errors
    /// When the socket is closed before, or there is no answer in time.
    pub async fn ask_for(&mut self, mut message: Value) -> anyhow::Result<Value> {
        let mark: u32 = rand::random();
        message["ref"] = json!(mark);
        self.say(&message).await?;
        let search = async {
            loop {
                match self.receive().await? {
                    Heard::Message(answer) if answer["ref"] == json!(mark) => return Ok(answer),
                    Heard::Message(other) => self.unheard.push_back(other),
                    Heard::Closed(code, reason) => bail!("closed with {code} {reason}: {message}"),
                }
            }
        };
        timeout(DEADLINE, search)
            .await
            .with_context(|| format!("no answer in time: {message}"))?
    }

    /// The code that the socket is closed with, and all messages before.
    ///
    /// # Errors
    /// When it is not closed in time.
    pub async fn end(&mut self) -> anyhow::Result<(u16, Vec<Value>)> {
        let mut before = Vec::new();
        let search = async {
            loop {
                match self.hear().await? {
                    Heard::Message(message) => before.push(message),
                    Heard::Closed(code, _) => return anyhow::Ok(code),
                }
            }
        };
        let code = timeout(DEADLINE, search).await.context("not closed")??;
        Ok((code, before))
    }

    /// Lets so many more bytes come.
    pub fn allow(&mut self, bytes: usize) {
        self.stream.get_mut().allow(bytes);
    }

    /// Whether the last frame came in part only.
    #[must_use]
    pub fn is_in_frame(&self) -> bool {
        self.stream.get_ref().body() > self.whole
    }

    /// The connection, without an end to the socket.
    #[must_use]
    pub fn into_line(self) -> Line {
        self.stream.into_inner()
    }
}

/// That a connection is over has many names.
fn ended(error: Error) -> anyhow::Error {
    match error {
        Error::Io(error) => error.into(),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
        }
        error => error.into(),
    }
}

/// Of a server's frame, which is not masked.
fn size(payload: usize) -> usize {
    let head = match payload {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    };
    head + payload
}
