//! One who reads a story of numbered words, is cut off, and comes back to where they were.

use std::io::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, timeout};

use super::client::{Client, Transport, Way};
use super::screen::{Frame, Screen};

/// Nobody waits longer for a word.
const DEADLINE: Duration = Duration::from_secs(20);

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client says so.
    Clean,
    /// It is never closed, and nobody reads it any more.
    Silent,
    Reset,
}

/// The words of a story that were published, and that Redis has.
pub(super) type Told = Arc<AtomicU64>;

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) screen: Screen,
    address: SocketAddr,
    token: String,
    transport: Transport,
    story: String,
    client: Option<Client>,
    /// Left open at silent cuts.
    left: Vec<Client>,
    told: Told,
}

/// From the begin of the connection to the first of the missing words, and to the last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    pub(super) first: Duration,
    pub(super) all: Duration,
}

impl Reader {
    pub(super) fn new(
        (address, transport): (SocketAddr, Transport),
        token: String,
        story: &str,
        (told, length): (&Told, u64),
    ) -> Self {
        Self {
            screen: Screen::new(length),
            address,
            token,
            transport,
            story: story.to_owned(),
            client: None,
            left: Vec::new(),
            told: Arc::clone(told),
        }
    }

    pub(super) fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// Connects where there is no connection, and reads until so many words are there.
    pub(super) async fn read_until(&mut self, words: u64) -> anyhow::Result<()> {
        let reading = async {
            while self.screen.words() < words {
                self.step().await?;
            }
            anyhow::Ok(())
        };
        let read = timeout(DEADLINE, reading).await;
        read.with_context(|| {
            let (story, has) = (&self.story, self.screen.words());
            format!("a reader of {story} has {has} of {words} words after {DEADLINE:?}")
        })?
    }

    /// Reads what comes in this time.
    pub(super) async fn read_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let reading = async {
            loop {
                self.step().await?;
            }
        };
        timeout(time, reading).await.unwrap_or(Ok(()))
    }

    pub(super) async fn cut(&mut self, how: Cut) {
        let Some(client) = self.client.take() else {
            return;
        };
        match how {
            // It may be over already.
            Cut::Clean => _ = client.close().await,
            Cut::Silent => self.left.push(client),
            Cut::Reset => client.cut(),
        }
    }

    /// Has everything again that was published before it connects.
    pub(super) async fn come_back(&mut self) -> anyhow::Result<Back> {
        let (had, missed) = (self.screen.words(), self.told());
        let begin = Instant::now();
        self.read_until(had + 1).await?;
        let first = begin.elapsed();
        self.read_until(missed).await?;
        Ok(Back {
            first,
            all: begin.elapsed(),
        })
    }

    /// Takes one message.
    async fn step(&mut self) -> anyhow::Result<()> {
        let client = match &mut self.client {
            Some(client) => client,
            None => self.client.insert(connect(self).await?),
        };
        let message = client.next().await?;
        let frame: Frame<'_> = serde_json::from_slice(message)?;
        if let ("err", Some(code)) = (frame.t, &frame.code) {
            bail!("a reader is refused: {code}");
        }
        self.screen.take(frame);
        Ok(())
    }
}

async fn connect(reader: &Reader) -> Result<Client, Error> {
    let way = Way {
        address: reader.address,
        token: &reader.token,
    };
    let cursor = reader.screen.cursor.as_deref();
    Client::read(way, reader.transport, &reader.story, cursor).await
}
