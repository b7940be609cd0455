//! The live channel of a story: one subscription on a connection of its own. Messages wait in a bounded queue; where a
//! slow reader lets it fill up, messages are dropped and the reader is told, so that it reads the log instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use crate::Error;
use crate::connect::{Topology, Wire};
use crate::reply::read;
use crate::view::Message;

/// Messages that wait for their reader.
const QUEUE: usize = 1_024;
/// What a live message may have: an event and what is around it, or a piece of a draft.
const MAX_MESSAGE_BYTES: usize = 2 * story::MAX_EVENT_BYTES;

pub(crate) struct Live {
    wire: Wire,
    queue: mpsc::Receiver<Push>,
    overflowed: Arc<AtomicBool>,
}

/// What came over the subscription.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Message),
    /// Some messages were lost.
    Lost,
    /// No more will come.
    Closed,
}

enum Push {
    Message(Vec<u8>),
    End,
}

impl Live {
    /// Subscribes: what is published from now on arrives.
    pub(crate) async fn open(
        topology: &Topology,
        timeout: Duration,
        channel: &str,
    ) -> Result<Self, Error> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let full = Arc::clone(&overflowed);
        let push = move |info: PushInfo| match arrived(info).map(|push| sender.try_send(push)) {
            Some(Err(_)) => {
                full.store(true, Ordering::Release);
                Err(())
            }
            _ => Ok(()),
        };
        let opening = async {
            let mut wire = topology.open_pushing(timeout, timeout, push).await?;
            wire.ssubscribe(channel).await?;
            Ok(wire)
        };
        let wire = match tokio::time::timeout(timeout, opening).await {
            Ok(wire) => wire,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        };
        Ok(Self {
            wire: wire.map_err(Error::from_redis)?,
            queue,
            overflowed,
        })
    }

    /// The next arrival. Cancel-safe: what it did not give, the next call gives.
    pub(crate) async fn next(&mut self) -> Arrival {
        if self.overflowed.swap(false, Ordering::AcqRel) {
            return Arrival::Lost;
        }
        match self.queue.recv().await {
            Some(Push::Message(json)) if json.len() > MAX_MESSAGE_BYTES => {
                tracing::warn!(bytes = json.len(), "a live message is too large");
                Arrival::Lost
            }
            Some(Push::Message(json)) => match serde_json::from_slice(&json) {
                Ok(message) => Arrival::Message(message),
                Err(error) => {
                    tracing::warn!(%error, "a live message cannot be read");
                    Arrival::Lost
                }
            },
            Some(Push::End) | None => Arrival::Closed,
        }
    }

    /// Whether the connection still answers: a subscription alone would not show that it is dead.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        let reply = self.wire.query(&redis::cmd("PING")).await;
        reply.map(|_| ()).map_err(Error::from_redis)
    }
}

fn arrived(info: PushInfo) -> Option<Push> {
    match info.kind {
        PushKind::SMessage => {
            let payload = info.data.into_iter().nth(1).unwrap_or(Value::Nil);
            read(payload).ok().map(Push::Message)
        }
        PushKind::Disconnection | PushKind::SUnsubscribe => Some(Push::End),
        _ => None,
    }
}
