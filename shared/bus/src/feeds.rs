//! Live channels over few connections (see [`crate::subscriber`]), however many they are. What arrives goes to the queue of
//! its channel's one subscriber; with a connection the queues of all that came over it end, and whoever still wants to hear
//! subscribes again.

pub(crate) mod routes;

use std::collections::HashSet;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::MissedTickBehavior;

use crate::live::Live;
use crate::subscriber::Subscriber;
use crate::{Bus, Error};
use routes::{Routes, TRUST};

/// Where nobody listens any more is unsubscribed from so long after, with whatever else was left by then.
const LINGER: Duration = Duration::from_secs(1);
/// Channels that are unsubscribed from at once.
const TOGETHER: usize = 64;

/// A connection for subscriptions; all clones share it. It connects when it is first used.
#[derive(Clone)]
pub struct Feeds {
    pub(crate) bus: Bus,
    subscriber: Subscriber,
    routes: Routes,
}

impl Bus {
    /// A connection for subscriptions. Where they come and go, [`Feeds::tidy`] has to run.
    #[must_use]
    pub fn feeds(&self) -> Feeds {
        let routes = Routes::new(self.topology.is_cluster());
        let subscriber = Subscriber::new(self.topology.clone(), &self.settings, routes.clone());
        Feeds {
            bus: self.clone(),
            subscriber,
            routes,
        }
    }
}

impl Feeds {
    /// Subscribes: what is published from now on arrives. A channel has one subscriber; a second one takes its place.
    pub(crate) async fn subscribe(&self, channel: String) -> Result<Live, Error> {
        let mut live = None;
        let add = |generation| live = Some(self.route(&channel, generation));
        self.subscriber.subscribe(&channel, add).await?;
        live.ok_or_else(|| Error::data("a subscription has no route"))
    }

    /// What comes for a channel, on that connection.
    pub(crate) fn route(&self, channel: &str, generation: u64) -> Live {
        let (serial, queue, overflowed) = self.routes.add(channel, generation);
        Live {
            feeds: self.clone(),
            channel: channel.to_owned(),
            serial,
            queue,
            overflowed,
        }
    }

    #[cfg(test)]
    pub(crate) fn message(&self, channel: &str, payload: Vec<u8>) {
        self.routes.message(0, channel, payload);
    }

    /// Whether the connection of a channel answers, as far as is known: however many ask, one of them asks it, and when it
    /// does not answer the queues of all who hear the same server end.
    pub(crate) async fn ping(&self, channel: &str) -> Result<(), Error> {
        if self.routes.takes_for_alive(channel) {
            return Ok(());
        }
        self.subscriber.ask(channel).await
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
            let leave = |left| async move { self.leave(left).await };
            let left = futures::stream::iter(self.routes.left());
            left.for_each_concurrent(TOGETHER, leave).await;
        }
    }

    async fn beat(&self) {
        // After the last answer has lost its trust.
        let mut ticks = tokio::time::interval(TRUST + TRUST / 10);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A place that hangs is waited for beside the others.
        let (mut asked, mut waits) = (FuturesUnordered::new(), HashSet::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let places = self.routes.places().into_iter();
                    let places = places.filter(|channel| waits.insert(channel.clone()));
                    asked.extend(places.map(|channel| self.beat_of(channel)));
                }
                Some(channel) = asked.next() => {
                    waits.remove(&channel);
                }
            }
        }
    }

    async fn beat_of(&self, channel: String) -> String {
        // Whoever listens sees the end of their queue.
        if let Err(error) = self.ping(&channel).await {
            tracing::debug!(channel, %error, "a connection for subscriptions is lost");
        }
        channel
    }

    async fn leave(&self, left: (String, u64)) {
        // Only now: somebody may have come back meanwhile.
        if !self.routes.is_left(&left) {
            return;
        }
        let (channel, generation) = left;
        if let Err(error) = self.subscriber.unsubscribe(&channel, generation).await {
            tracing::debug!(channel, %error, "cannot unsubscribe");
            // Of a connection that is lost nothing is left; one that comes to tells by the next message.
            if !error.is_away() {
                self.routes.leave(&channel, generation);
            }
        }
    }

    pub(crate) fn end(&self, channel: &str, serial: u64) {
        self.routes.end(channel, serial);
    }
}

impl std::fmt::Debug for Feeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Feeds").field(&self.bus).finish()
    }
}
