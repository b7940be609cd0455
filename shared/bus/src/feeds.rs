//! Live channels over one connection, however many they are. What arrives goes to the queue of its channel's one
//! subscriber; when the connection is lost all queues end, and whoever still wants to hear subscribes again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::keys::tag;
use crate::link::Link;
use crate::live::Live;
use crate::reply::read;
use crate::{Bus, Error};

/// A connection that was heard of or asked so lately is not asked whether it lives.
const TRUST: Duration = Duration::from_secs(1);
/// Where nobody listens any more is unsubscribed from so long after, with whatever else was left by then.
const LINGER: Duration = Duration::from_secs(1);
/// Channels that are unsubscribed from at once.
const TOGETHER: usize = 64;
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
pub(crate) struct Routes(Arc<Shared>);

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    /// Told of whatever is left.
    leaving: Notify,
}

#[derive(Default)]
struct Table {
    routes: HashMap<String, Route>,
    /// Channels that nobody listens to any more and that are still subscribed to, and on which connection.
    left: HashMap<String, u64>,
    serial: u64,
    /// When something arrived last, or it was asked whether the connection lives. By hash tag: in a cluster the connection
    /// is one to each master, and another's life tells nothing of this one.
    trusted: HashMap<String, Instant>,
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
    /// A connection for subscriptions. Where they come and go, [`Feeds::tidy`] has to run.
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
        let mut live = None;
        let add = |generation| live = Some(self.route(&channel, generation));
        self.link.subscribe(&channel, add).await?;
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
        self.routes.message(0, channel, payload);
    }

    /// Whether the connection of a channel answers, as far as is known: however many ask, one of them asks it, and when it
    /// does not answer the queues of all end.
    pub(crate) async fn ping(&self, channel: &str) -> Result<(), Error> {
        if self.routes.takes_for_alive(channel) {
            return Ok(());
        }
        // A PING would go to any node of a cluster; there is no such key.
        let mut ask = redis::cmd("EXISTS");
        self.link.query(ask.arg(channel)).await.map(|_| ())
    }

    /// Unsubscribes from what nobody listens to any more, since Redis goes on sending it until then; and asks each second
    /// whether the connection lives, so that not every reader need wait for silence. For as long as it runs.
    pub async fn tidy(&self) {
        tokio::join!(self.leave_what_is_left(), self.beat());
    }

    async fn leave_what_is_left(&self) {
        loop {
            self.routes.something_left().await;
            tokio::time::sleep(LINGER).await;
            let left: Vec<String> = self.routes.table().left.keys().cloned().collect();
            let leave = |channel| async move { self.leave(channel).await };
            let left = futures::stream::iter(left);
            left.for_each_concurrent(TOGETHER, leave).await;
        }
    }

    async fn beat(&self) {
        loop {
            tokio::time::sleep(TRUST).await;
            let asked = self.routes.places().into_iter().map(|channel| async move {
                // Whoever listens sees the end of their queue.
                if let Err(error) = self.ping(&channel).await {
                    tracing::debug!(channel, %error, "a connection for subscriptions is lost");
                }
            });
            futures::future::join_all(asked).await;
        }
    }

    async fn leave(&self, channel: String) {
        // Only now: somebody may have come back meanwhile.
        let Some(generation) = self.routes.table().left.remove(&channel) else {
            return;
        };
        if let Err(error) = self.link.unsubscribe(&channel, generation).await {
            tracing::debug!(channel, %error, "cannot unsubscribe");
            self.routes
                .leave(&mut self.routes.table(), channel, generation);
        }
    }

    pub(crate) fn end(&self, channel: &str, serial: u64) {
        let mut table = self.routes.table();
        let route = table.routes.get(channel);
        if let Some(route) = route.filter(|route| route.serial == serial) {
            let generation = route.generation;
            table.routes.remove(channel);
            self.routes
                .leave(&mut table, channel.to_owned(), generation);
        }
    }
}

impl Routes {
    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        let table = self.0.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    async fn something_left(&self) {
        while self.table().left.is_empty() {
            self.0.leaving.notified().await;
        }
    }

    /// A channel that somebody listens to, of each hash tag.
    fn places(&self) -> Vec<String> {
        let table = self.table();
        let channels = table.routes.keys();
        let places: HashMap<&str, &String> = channels.map(|name| (tag(name), name)).collect();
        places.into_values().cloned().collect()
    }

    /// Has it unsubscribed from, unless somebody listens.
    fn leave(&self, table: &mut Table, channel: String, generation: u64) {
        if !table.routes.contains_key(&channel) {
            table.left.insert(channel, generation);
            self.0.leaving.notify_one();
        }
    }

    /// Takes the connection for alive, as somebody has just asked or is about to: who is told no is to ask.
    fn takes_for_alive(&self, channel: &str) -> bool {
        let mut table = self.table();
        let trusted = table.trusted.get(tag(channel));
        let is_trusted = trusted.is_some_and(|at| at.elapsed() < TRUST);
        if !is_trusted {
            table.trust(channel);
        }
        is_trusted
    }

    fn add(&self, channel: &str, route: Route) -> u64 {
        let mut table = self.table();
        table.serial += 1;
        table.left.remove(channel);
        let serial = table.serial;
        table
            .routes
            .insert(channel.to_owned(), Route { serial, ..route });
        serial
    }

    /// Of connection `generation`.
    pub(crate) fn arrived(&self, generation: u64, info: PushInfo) -> Result<(), ()> {
        match info.kind {
            PushKind::SMessage => {
                let mut data = info.data.into_iter();
                let channel: Option<String> = data.next().and_then(|name| read(name).ok());
                let payload = read(data.next().unwrap_or(Value::Nil));
                if let (Some(channel), Ok(payload)) = (channel, payload) {
                    self.message(generation, &channel, payload);
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

    fn message(&self, generation: u64, channel: &str, payload: Vec<u8>) {
        let mut table = self.table();
        table.trust(channel);
        match table.routes.get(channel) {
            Some(route) => {
                if route.queue.try_send(Push(payload)).is_err() {
                    route.overflowed.store(true, Ordering::Release);
                }
            }
            // Subscribed to once more while it was unsubscribed from, and left again.
            None => self.leave(&mut table, channel.to_owned(), generation),
        }
    }

    /// Ends the queues of what was subscribed to on that connection or an earlier one.
    pub(crate) fn lost(&self, generation: u64) {
        let mut table = self.table();
        table
            .routes
            .retain(|_, route| route.generation > generation);
        table.left.retain(|_, on| *on > generation);
    }
}

impl Table {
    fn trust(&mut self, channel: &str) {
        let now = Instant::now();
        match self.trusted.get_mut(tag(channel)) {
            Some(at) => *at = now,
            None => _ = self.trusted.insert(tag(channel).to_owned(), now),
        }
    }
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Feeds").field(&self.bus).finish()
    }
}
