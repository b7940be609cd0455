//! Where the messages of each channel go, and over which connection they come.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::keys::place;
use crate::reply::read;

/// A connection that was heard of or asked so lately is not asked whether it lives.
pub(super) const TRUST: Duration = Duration::from_secs(1);
/// Messages that wait for the subscriber of their channel.
const QUEUE: usize = 1_024;

/// Where the messages of each channel go.
#[derive(Clone)]
pub(crate) struct Routes(Arc<Shared>);

struct Shared {
    table: Mutex<Table>,
    /// Told of whatever is left.
    leaving: Notify,
}

struct Table {
    is_cluster: bool,
    /// By hash tag in a cluster, where a connection is one to each master, and what is true of one is not of another; one
    /// alone elsewhere.
    places: HashMap<String, Place>,
    /// Channels that nobody listens to any more and that are still subscribed to, and on which connection.
    left: HashSet<(String, u64)>,
    serial: u64,
}

#[derive(Default)]
struct Place {
    /// By channel.
    routes: HashMap<String, Route>,
    /// When something arrived last, or it was asked whether the connection lives.
    trusted: Option<Instant>,
}

struct Route {
    serial: u64,
    /// The connection that it is subscribed on.
    generation: u64,
    /// Whether Redis has said so.
    is_confirmed: bool,
    queue: mpsc::Sender<Push>,
    overflowed: Arc<AtomicBool>,
}

/// A message as it came.
pub(crate) struct Push(pub(crate) Vec<u8>);

impl Routes {
    pub(super) fn new(is_cluster: bool) -> Self {
        let table = Table {
            is_cluster,
            places: HashMap::new(),
            left: HashSet::new(),
            serial: 0,
        };
        Self(Arc::new(Shared {
            table: Mutex::new(table),
            leaving: Notify::new(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        let table = self.0.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn something_left(&self) {
        while self.table().left.is_empty() {
            self.0.leaving.notified().await;
        }
    }

    /// What is to be unsubscribed from by now.
    pub(super) fn left(&self) -> Vec<(String, u64)> {
        self.table().left.iter().cloned().collect()
    }

    /// Whether it still is, and then it is the caller's to do.
    pub(super) fn is_left(&self, left: &(String, u64)) -> bool {
        self.table().left.remove(left)
    }

    /// Has it unsubscribed from on that connection, unless somebody listens.
    pub(super) fn leave(&self, channel: &str, generation: u64) {
        self.table().leave(channel, generation);
        self.0.leaving.notify_one();
    }

    /// A channel that somebody listens to, of each place.
    pub(super) fn places(&self) -> Vec<String> {
        let table = self.table();
        let places = table.places.values();
        let places = places.filter_map(|place| place.routes.keys().next().cloned());
        places.collect()
    }

    /// Takes the connection for alive, as somebody has just asked or is about to: who is told no is to ask.
    pub(super) fn takes_for_alive(&self, channel: &str) -> bool {
        let mut table = self.table();
        let place = table.place(channel);
        let is_trusted = place.trusted.is_some_and(|at| at.elapsed() < TRUST);
        if !is_trusted {
            place.trusted = Some(Instant::now());
        }
        is_trusted
    }

    /// A channel's one subscriber, from now on: their serial, what comes, and whether some of it was lost.
    pub(super) fn add(
        &self,
        channel: &str,
        generation: u64,
    ) -> (u64, mpsc::Receiver<Push>, Arc<AtomicBool>) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let overflowed = Arc::new(AtomicBool::new(false));
        let mut table = self.table();
        table.serial += 1;
        table.left.remove(&(channel.to_owned(), generation));
        let route = Route {
            serial: table.serial,
            generation,
            is_confirmed: false,
            queue: sender,
            overflowed: Arc::clone(&overflowed),
        };
        let routes = &mut table.place(channel).routes;
        routes.insert(channel.to_owned(), route);
        (table.serial, queue, overflowed)
    }

    pub(super) fn end(&self, channel: &str, serial: u64) {
        let mut table = self.table();
        let route = table.route(channel);
        let Some(route) = route.filter(|route| route.serial == serial) else {
            return;
        };
        let generation = route.generation;
        table.remove(channel);
        table.leave(channel, generation);
        self.0.leaving.notify_one();
    }

    /// Of connection `generation`.
    pub(crate) fn arrived(&self, generation: u64, info: PushInfo) -> Result<(), ()> {
        let mut data = info.data.into_iter();
        let mut channel = || data.next().and_then(|name| read::<String>(name).ok());
        match info.kind {
            PushKind::SMessage => {
                if let Some(channel) = channel()
                    && let Ok(payload) = read(data.next().unwrap_or(Value::Nil))
                {
                    self.message(generation, &channel, payload);
                }
            }
            PushKind::Disconnection => self.lost(None, generation),
            PushKind::SSubscribe => {
                if let Some(channel) = channel() {
                    self.table().confirm(&channel, generation);
                }
            }
            // By the server itself: its slot has moved. The answer to our own comes when the route is gone, or ends one that
            // was added meanwhile: it is subscribed to again.
            PushKind::SUnsubscribe => {
                if let Some(channel) = channel() {
                    self.table().close(&channel, generation);
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn message(&self, generation: u64, channel: &str, payload: Vec<u8>) {
        let mut table = self.table();
        let Some(route) = table.on(channel, generation) else {
            // Subscribed to once more while it was unsubscribed from, and left again; or it comes over another connection by
            // now, and would come twice.
            table.leave(channel, generation);
            return self.0.leaving.notify_one();
        };
        if route.queue.try_send(Push(payload)).is_err() {
            route.overflowed.store(true, Ordering::Release);
        }
        table.trust(channel);
    }

    /// Ends the queues of what was subscribed to on that connection: of a channel's place, or of all.
    pub(crate) fn lost(&self, channel: Option<&str>, generation: u64) {
        let mut table = self.table();
        let Table {
            is_cluster,
            places,
            left,
            ..
        } = &mut *table;
        let lost = channel.map(|channel| place(*is_cluster, channel));
        let is_there = |of: &str| lost.is_none_or(|lost| lost == of);
        for (of, place) in places {
            if is_there(of) {
                let routes = &mut place.routes;
                routes.retain(|_, route| route.generation != generation);
            }
        }
        left.retain(|(channel, on)| *on != generation || !is_there(place(*is_cluster, channel)));
    }
}

impl Table {
    fn place(&mut self, channel: &str) -> &mut Place {
        let place = place(self.is_cluster, channel);
        self.places.entry(place.to_owned()).or_default()
    }

    fn trust(&mut self, channel: &str) {
        if let Some(place) = self.places.get_mut(place(self.is_cluster, channel)) {
            place.trusted = Some(Instant::now());
        }
    }

    fn route(&mut self, channel: &str) -> Option<&mut Route> {
        let place = self.places.get_mut(place(self.is_cluster, channel))?;
        place.routes.get_mut(channel)
    }

    /// Where it is on that connection.
    fn on(&mut self, channel: &str, generation: u64) -> Option<&mut Route> {
        let route = self.route(channel);
        route.filter(|route| route.generation == generation)
    }

    fn leave(&mut self, channel: &str, generation: u64) {
        if self.on(channel, generation).is_none() {
            self.left.insert((channel.to_owned(), generation));
        }
    }

    fn remove(&mut self, channel: &str) {
        self.place(channel).routes.remove(channel);
    }

    /// The client subscribes anew by itself where it has connected anew by itself: what was published meanwhile is lost.
    fn confirm(&mut self, channel: &str, generation: u64) {
        let route = self.on(channel, generation);
        if route.is_some_and(|route| std::mem::replace(&mut route.is_confirmed, true)) {
            self.remove(channel);
        }
    }

    fn close(&mut self, channel: &str, generation: u64) {
        if self.on(channel, generation).is_some() {
            self.remove(channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::Feeds;
    use crate::live::{Arrival, Live};
    use crate::{Bus, Settings};

    fn feeds() -> Feeds {
        let bus = Bus::new(Settings::new("redis+cluster://nowhere"));
        bus.expect("the settings are good").feeds()
    }

    fn push(feeds: &Feeds, generation: u64, kind: PushKind, data: &[&str]) {
        let data = data
            .iter()
            .map(|text| Value::BulkString(text.as_bytes().to_vec()));
        let data = data.collect();
        let arrived = feeds.routes.arrived(generation, PushInfo { kind, data });
        arrived.expect("it is taken");
    }

    /// What waits in a queue; `None` where it has ended.
    async fn waits(live: &mut Live) -> Option<Vec<u8>> {
        match live.next_bytes().await {
            Arrival::Message(bytes) => Some(bytes),
            Arrival::Closed => None,
            Arrival::Lost => panic!("nothing overflows"),
        }
    }

    #[tokio::test]
    async fn a_hash_tag_that_is_lost_takes_no_other_with_it() {
        let feeds = feeds();
        let mut castle = feeds.route("{0}:castle", 1);
        let mut moor = feeds.route("{1}:moor", 1);
        feeds.routes.lost(Some("{0}:other"), 1);
        assert_eq!(waits(&mut castle).await, None);
        push(&feeds, 1, PushKind::SMessage, &["{1}:moor", "a"]);
        assert_eq!(waits(&mut moor).await, Some(b"a".to_vec()));
        // A connection that ends has all of them.
        let mut castle = feeds.route("{0}:castle", 2);
        push(&feeds, 1, PushKind::Disconnection, &[]);
        assert_eq!(waits(&mut moor).await, None);
        push(&feeds, 2, PushKind::SMessage, &["{0}:castle", "b"]);
        assert_eq!(waits(&mut castle).await, Some(b"b".to_vec()));
    }

    #[tokio::test]
    async fn without_a_cluster_one_channel_tells_of_all() {
        let bus = Bus::new(Settings::new("redis://nowhere"));
        let feeds = bus.expect("the settings are good").feeds();
        let _castle = feeds.route("{0}:castle", 1);
        let mut moor = feeds.route("{1}:moor", 1);
        assert_eq!(feeds.routes.places().len(), 1);
        assert!(!feeds.routes.takes_for_alive("{0}:castle"));
        assert!(feeds.routes.takes_for_alive("{1}:moor"));
        feeds.routes.lost(Some("{0}:castle"), 1);
        assert_eq!(waits(&mut moor).await, None);
    }

    #[tokio::test]
    async fn what_an_earlier_connection_still_brings_is_left_and_ends_nothing() {
        let feeds = feeds();
        let mut castle = feeds.route("castle", 2);
        push(&feeds, 1, PushKind::SMessage, &["castle", "twice"]);
        push(&feeds, 1, PushKind::SUnsubscribe, &["castle"]);
        push(&feeds, 2, PushKind::SMessage, &["castle", "once"]);
        assert_eq!(waits(&mut castle).await, Some(b"once".to_vec()));
        let left = feeds.routes.table().left.clone();
        assert_eq!(left, HashSet::from([("castle".to_owned(), 1)]));
    }

    #[tokio::test]
    async fn a_channel_that_the_client_subscribed_to_anew_by_itself_is_read_anew() {
        let feeds = feeds();
        let mut castle = feeds.route("castle", 1);
        push(&feeds, 1, PushKind::SSubscribe, &["castle"]);
        push(&feeds, 1, PushKind::SMessage, &["castle", "a"]);
        push(&feeds, 1, PushKind::SSubscribe, &["castle"]);
        assert_eq!(waits(&mut castle).await, Some(b"a".to_vec()));
        assert_eq!(waits(&mut castle).await, None);
    }
}
