//! The connections of subscriptions. There is one, while all that it leads to answers. In a cluster it is one to each
//! master, and of a master that hangs the hash tags that it has go over to a new one, alone: nobody else is torn from theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use redis::RedisResult;

use crate::Error;
use crate::connect::{Topology, Wire};
use crate::feeds::routes::Routes;
use crate::keys::place;
use crate::link::{Connecting, backoff, connecting};
use crate::settings::Settings;

/// Shared by all clones. It connects when it is first used, and anew after a loss.
#[derive(Clone)]
pub(crate) struct Subscriber(Arc<Shape>);

struct Shape {
    topology: Topology,
    /// For a connection, and for an answer.
    timeout: Duration,
    reconnect: Duration,
    /// Where the messages go.
    routes: Routes,
    lines: Mutex<Lines>,
}

/// A connection, or the attempt to make it, by its number.
#[derive(Clone)]
struct Line {
    generation: u64,
    wire: Connecting,
}

#[derive(Default)]
struct Lines {
    /// By hash tag in a cluster; one alone elsewhere.
    places: HashMap<String, Place>,
    /// The one on which something was answered last.
    good: Option<Line>,
    /// The one that was begun last, unless it was lost.
    newest: Option<Line>,
    begun: u64,
}

/// What has one master.
#[derive(Default)]
struct Place {
    line: Option<Line>,
    /// The last one that was lost here, 0 if none was: it is not taken again, nor one before it.
    lost: u64,
    /// Lost since one was good.
    failures: u32,
}

impl Subscriber {
    pub(crate) fn new(topology: Topology, settings: &Settings, routes: Routes) -> Self {
        Self(Arc::new(Shape {
            topology,
            timeout: settings.timeout,
            reconnect: settings.reconnect,
            routes,
            lines: Mutex::default(),
        }))
    }

    /// Subscribes to a channel. `add` is told the connection's generation before its first message.
    pub(crate) async fn subscribe(
        &self,
        channel: &str,
        add: impl FnOnce(u64),
    ) -> Result<(), Error> {
        let (generation, mut wire) = self.wire(channel).await?;
        add(generation);
        self.judged(channel, generation, wire.ssubscribe(channel).await)
    }

    /// Leaves a channel of that connection. With a connection that is gone all were left.
    pub(crate) async fn unsubscribe(&self, channel: &str, generation: u64) -> Result<(), Error> {
        let line = self.0.lines().find(generation);
        match line.and_then(|line| line.wire.now_or_never()) {
            Some(Ok(mut wire)) => {
                self.judged(channel, generation, wire.sunsubscribe(channel).await)
            }
            _ => Ok(()),
        }
    }

    /// Whether the server of a channel answers.
    pub(crate) async fn ask(&self, channel: &str) -> Result<(), Error> {
        let (generation, mut wire) = self.wire(channel).await?;
        // A PING would go to any node of a cluster; there is no such key.
        let mut ask = redis::cmd("EXISTS");
        let answer = wire.query(ask.arg(channel)).await;
        self.judged(channel, generation, answer.map(drop))
    }

    /// The connection that leads to a channel's server.
    async fn wire(&self, channel: &str) -> Result<(u64, Wire), Error> {
        let Line { generation, wire } = self.0.line(channel);
        match wire.await {
            Ok(wire) => Ok((generation, wire)),
            Err(error) => {
                self.lose(channel, generation);
                Err(Error::from_redis(error))
            }
        }
    }

    fn judged(&self, channel: &str, generation: u64, reply: RedisResult<()>) -> Result<(), Error> {
        let reply = reply.map_err(Error::from_redis);
        match &reply {
            Err(Error::Unreachable(error)) => {
                if self.lose(channel, generation) {
                    tracing::debug!(%error, channel, "lost a connection for subscriptions");
                }
            }
            _ => {
                self.0.lines().answered(self.0.place(channel), generation);
            }
        }
        reply
    }

    /// Whether it was a good connection until now.
    fn lose(&self, channel: &str, generation: u64) -> bool {
        self.0.routes.lost(Some(channel), generation);
        self.0.lines().lose(self.0.place(channel), generation)
    }
}

impl Shape {
    fn place<'a>(&self, channel: &'a str) -> &'a str {
        place(self.topology.is_cluster(), channel)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, channel: &str) -> Line {
        let begin = |generation, failures| self.begin(generation, failures);
        self.lines().line(self.place(channel), begin)
    }

    fn begin(&self, generation: u64, failures: u32) -> Connecting {
        let (routes, timeout) = (self.routes.clone(), self.timeout);
        let push = move |info| routes.arrived(generation, info);
        let delay = backoff(failures, self.reconnect);
        connecting(&self.topology, delay, timeout, move |topology| async move {
            topology.open_pushing(timeout, timeout, push).await
        })
    }
}

impl Lines {
    /// The line of a place. One that has none takes what is good elsewhere, or else what was begun last: only where it has
    /// lost both does another one `begin`.
    fn line(&mut self, place: &str, begin: impl FnOnce(u64, u32) -> Connecting) -> Line {
        let place = self.places.entry(place.to_owned()).or_default();
        if let Some(line) = &place.line {
            return line.clone();
        }
        let is_open = |line: &&Line| line.generation > place.lost;
        let known = [&self.good, &self.newest];
        let known = known.into_iter().flatten().find(is_open).cloned();
        let line = known.unwrap_or_else(|| {
            self.begun += 1;
            let line = Line {
                generation: self.begun,
                wire: begin(self.begun, place.failures),
            };
            self.newest = Some(line.clone());
            line
        });
        place.line.insert(line).clone()
    }

    fn find(&self, generation: u64) -> Option<Line> {
        let lines = self.places.values().filter_map(|place| place.line.as_ref());
        let mut lines = lines.chain(&self.good).chain(&self.newest);
        lines.find(|line| line.generation == generation).cloned()
    }

    /// Whether it was good until now.
    fn lose(&mut self, place: &str, generation: u64) -> bool {
        let is_it = |line: &Line| line.generation == generation;
        let place = self.places.get_mut(place);
        let Some(place) = place.filter(|place| place.line.as_ref().is_some_and(is_it)) else {
            return false;
        };
        let was_good = place.failures == 0;
        place.line = None;
        place.lost = generation;
        place.failures = place.failures.saturating_add(1);
        // Who has nothing yet is not to share it. Whoever still has an answer there says so within a second.
        self.good.take_if(|line| is_it(line));
        self.newest.take_if(|line| is_it(line));
        was_good
    }

    fn answered(&mut self, place: &str, generation: u64) {
        let is_it = |line: &Line| line.generation == generation;
        let Some(place) = self.places.get_mut(place) else {
            return;
        };
        if let Some(line) = place.line.as_ref().filter(|line| is_it(line)) {
            place.failures = 0;
            if !self.good.as_ref().is_some_and(is_it) {
                self.good = Some(line.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(_generation: u64, _failures: u32) -> Connecting {
        std::future::pending().boxed().shared()
    }

    #[test]
    fn what_is_at_a_master_that_hangs_goes_over_together_and_alone() {
        let mut lines = Lines::default();
        let generation = |lines: &mut Lines, place: &str| lines.line(place, begin).generation;
        for place in ["well", "hangs", "hangs too"] {
            assert_eq!(generation(&mut lines, place), 1);
            lines.answered(place, 1);
        }
        for round in 1..4 {
            assert_eq!(lines.lose("hangs", round), round == 1);
            // A late error of the same line.
            assert!(!lines.lose("hangs", round));
            assert_eq!(generation(&mut lines, "hangs"), round + 1);
            lines.lose("hangs too", round);
            assert_eq!(generation(&mut lines, "hangs too"), round + 1);
            lines.answered("well", 1);
            assert_eq!(generation(&mut lines, "well"), 1);
            // What is new joins whoever has an answer.
            let new = format!("new {round}");
            assert_eq!(generation(&mut lines, &new), 1);
            assert_eq!(lines.find(round).is_some(), round == 1);
        }
        lines.answered("hangs", 4);
        assert_eq!(lines.places["hangs"].failures, 0);
        assert_eq!(lines.begun, 4);
    }
}
