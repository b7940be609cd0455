//! Live channels over one connection, however many they are. What arrives goes to the queue of its channel's one
//! subscriber; when the connection is lost all queues end, and whoever still wants to hear subscribes again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::link::Link;
use crate::live::Live;
use crate::reply::read;
use crate::{Bus, Error};

/// A connection that was heard of or asked so lately is not asked whether it lives.
const TRUST: Duration = Duration::from_secs(1);
/// Messages that wait for the subscriber of their channel.
const QUEUE: usize = 1_024;

/// A connection for subscriptions; all clones share it. It connects when it is first used.
#[derive(Clone)]
pub struct Feeds {
    pub(crate) bus: Bus,
    link: Link,
    routes: Routes,
}

/// Where the messages of each channel go.
#[derive(Clone, Default)]
pub(crate) struct Routes(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    routes: HashMap<String, Route>,
    /// Channels that nobody listens to any more and that are still subscribed to.
    left: Vec<String>,
    serial: u64,
    /// When something arrived last, or the connection was asked whether it lives.
    trusted: Option<Instant>,
}

struct Route {
    serial: u64,
    /// The connection that it is subscribed on.
    generation: u64,
    queue: mpsc::Sender<Push>,
    overflowed: Arc<AtomicBool>,
}

/// A message as it came.
pub(crate) struct Push(pub(crate) Vec<u8>);

impl Bus {
    /// A connection for subscriptions.
    #[must_use]
    pub fn feeds(&self) -> Feeds {
        let routes = Routes::default();
        let link = Link::pushing(self.topology.clone(), &self.settings, routes.clone());
        Feeds {
            bus: self.clone(),
            link,
            routes,
        }
    }
}

impl Feeds {
    /// Subscribes: what is published from now on arrives. A channel has one subscriber; a second one takes its place.
    pub(crate) async fn subscribe(&self, channel: String) -> Result<Live, Error> {
        let left = self.routes.take_left(&channel);
        let mut live = None;
        let add = |generation| live = Some(self.route(&channel, generation));
        self.link.subscribe(&channel, &left, add).await?;
        live.ok_or_else(|| Error::data("a subscription has no route"))
    }

    /// What comes for a channel, on that connection.
    pub(crate) fn route(&self, channel: &str, generation: u64) -> Live {
        let (sender, queue) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let route = Route {
            serial: 0,
            generation,
            queue: sender,
            overflowed: Arc::clone(&overflowed),
        };
        Live {
            feeds: self.clone(),
            channel: channel.to_owned(),
            serial: self.routes.add(channel, route),
            queue,
            overflowed,
        }
    }

    #[cfg(test)]
    pub(crate) fn message(&self, channel: &str, payload: Vec<u8>) {
        self.routes.message(channel, payload);
    }

    /// Whether the connection answers, as far as is known: however many ask, one of them asks it, and when it does not
    /// answer the queues of all end.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        if self.routes.is_trusted() {
            return Ok(());
        }
        self.link.query(&redis::cmd("PING")).await.map(|_| ())
    }

    pub(crate) fn end(&self, channel: &str, serial: u64) {
        let mut table = self.routes.table();
        if table
            .routes
            .get(channel)
            .is_some_and(|route| route.serial == serial)
        {
            table.routes.remove(channel);
            table.left.push(channel.to_owned());
        }
    }
}

impl Routes {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is told no is to ask; for a while everybody else trusts that they do.
    fn is_trusted(&self) -> bool {
        let mut table = self.table();
        let is_trusted = table.trusted.is_some_and(|at| at.elapsed() < TRUST);
        if !is_trusted {
            table.trusted = Some(Instant::now());
        }
        is_trusted
    }

    fn add(&self, channel: &str, route: Route) -> u64 {
        let mut table = self.table();
        table.serial += 1;
        let serial = table.serial;
        table
            .routes
            .insert(channel.to_owned(), Route { serial, ..route });
        serial
    }

    /// What is to be unsubscribed from when `but` is subscribed to.
    fn take_left(&self, but: &str) -> Vec<String> {
        let mut table = self.table();
        let mut left = std::mem::take(&mut table.left);
        left.retain(|channel| channel != but && !table.routes.contains_key(channel));
        left
    }

    /// Of connection `generation`.
    pub(crate) fn arrived(&self, generation: u64, info: PushInfo) -> Result<(), ()> {
        match info.kind {
            PushKind::SMessage => {
                let mut data = info.data.into_iter();
                let channel: Option<String> = data.next().and_then(|name| read(name).ok());
                let payload = read(data.next().unwrap_or(Value::Nil));
                if let (Some(channel), Ok(payload)) = (channel, payload) {
                    self.message(&channel, payload);
                }
            }
            PushKind::Disconnection => self.lost(generation),
            // By the server itself: its slot has moved. The answer to our own comes when the route is gone.
            PushKind::SUnsubscribe => {
                let channel = info.data.into_iter().next();
                if let Some(channel) = channel.and_then(|name| read::<String>(name).ok()) {
                    self.table().routes.remove(&channel);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn message(&self, channel: &str, payload: Vec<u8>) {
        let mut table = self.table();
        table.trusted = Some(Instant::now());
        if let Some(route) = table.routes.get(channel)
            && route.queue.try_send(Push(payload)).is_err()
        {
            route.overflowed.store(true, Ordering::Release);
        }
    }

    /// Ends the queues of what was subscribed to on that connection or an earlier one.
    pub(crate) fn lost(&self, generation: u64) {
        let mut table = self.table();
        table
            .routes
            .retain(|_, route| route.generation > generation);
        table.left.clear();
    }
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Feeds").field(&self.bus).finish()
    }
}
