//! A subscription that keeps itself: after a loss it subscribes again, and it doubts silence. It says when something may
//! have been missed; what is to be done about that is its owner's to know.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::feeds::Feeds;
use crate::live::{Arrival, Live};

/// A subscription that brings nothing for so long is doubted.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) struct Channel {
    feeds: Feeds,
    name: String,
    /// What its messages may have; a larger one is lost.
    max_bytes: usize,
    live: Option<Live>,
    /// When it is doubted.
    doubt: Instant,
    /// What was begun; it outlives a dropped `next`.
    opening: Option<BoxFuture<'static, Result<(Live, Heard), Error>>>,
    /// Connections lost since one was good.
    failures: u32,
    /// There are many of its kind, and nothing is lost with it.
    is_quiet: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Message(Vec<u8>),
    /// It is subscribed to, and what came before that is not known.
    Began,
    /// Nothing came for a while; the connection is alive.
    Quiet,
    /// Some messages were lost.
    Lost,
}

impl Channel {
    pub(crate) fn new(feeds: Feeds, name: String, max_bytes: usize) -> Self {
        Self {
            feeds,
            name,
            max_bytes,
            live: None,
            doubt: Instant::now(),
            opening: None,
            failures: 0,
            is_quiet: false,
        }
    }

    /// No word is made of its loss.
    pub(crate) fn quiet(self) -> Self {
        Self {
            is_quiet: true,
            ..self
        }
    }

    pub(crate) fn feeds(&self) -> &Feeds {
        &self.feeds
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.failures > 0
    }

    /// What comes next; waits for it, through restarts of Redis too. Cancel-safe. An error is of Redis's refusal.
    pub(crate) async fn next(&mut self) -> Result<Heard, Error> {
        loop {
            if let Some(opening) = &mut self.opening {
                let opened = opening.await;
                self.opening = None;
                match opened {
                    Ok((live, heard)) => {
                        self.failures = 0;
                        self.live = Some(live);
                        self.doubt = Instant::now() + QUIET;
                        return Ok(heard);
                    }
                    Err(Error::Unreachable(error)) => {
                        if self.failures == 0 && !self.is_quiet {
                            tracing::warn!(channel = self.name, %error, "lost a channel");
                        }
                        self.failures = self.failures.saturating_add(1);
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(live) = &mut self.live else {
                let (feeds, name) = (self.feeds.clone(), self.name.clone());
                self.opening = Some(Box::pin(async move {
                    let live = feeds.subscribe(name).await?;
                    Ok((live, Heard::Began))
                }));
                continue;
            };
            let arrival = timeout_at(self.doubt, live.next_bytes()).await;
            let Ok(arrival) = arrival else {
                self.ask();
                continue;
            };
            self.doubt = Instant::now() + QUIET;
            match arrival {
                Arrival::Message(message) if message.len() > self.max_bytes => {
                    let bytes = message.len();
                    tracing::warn!(channel = self.name, bytes, "a message is too large");
                    return Ok(Heard::Lost);
                }
                Arrival::Message(message) => return Ok(Heard::Message(message)),
                Arrival::Lost => return Ok(Heard::Lost),
                Arrival::Closed => self.live = None,
            }
        }
    }

    /// Whether the connection lives.
    fn ask(&mut self) {
        if let Some(live) = self.live.take() {
            self.opening = Some(Box::pin(async move {
                live.ping().await?;
                Ok((live, Heard::Quiet))
            }));
        }
    }
}
