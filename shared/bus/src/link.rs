//! A link to Redis that rebuilds its connection by itself.
//!
//! Every wait has an end. The client's own default timeout of 500 ms would cut blocking reads, and no timeout at all
//! would hang on a wedged server that still answers TCP; so each link states its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use redis::{RedisError, RedisResult, Value};

use crate::Error;
use crate::connect::{Topology, Wire};

/// The longest wait between two attempts to connect.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

type Connecting = Shared<BoxFuture<'static, RedisResult<Wire>>>;

/// A connection shared by everyone who holds a clone. Who uses it tells people that Redis is away: a program has several
/// links, and they would all say the same. It connects when first used; after a drop or a timeout the next
/// call connects anew, and all calls of that moment wait for the one attempt.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shape>);

struct Shape {
    topology: Topology,
    connect: Duration,
    response: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wire: Option<Connecting>,
    /// Counts the connections, so that a late error of an old one does not close its successor.
    generation: u64,
    /// Connections lost since one was good.
    failures: u32,
}

impl Link {
    pub(crate) fn new(topology: Topology, connect: Duration, response: Duration) -> Self {
        Self(Arc::new(Shape {
            topology,
            connect,
            response,
            state: Mutex::default(),
        }))
    }

    pub(crate) async fn query(&self, cmd: &redis::Cmd) -> Result<Value, Error> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(mut wire) => self.judged(generation, wire.query(cmd).await),
            Err(error) => Err(self.not_connected(generation, error)),
        }
    }

    /// One round trip for many commands; one reply for each.
    pub(crate) async fn pipe(&self, pipe: &redis::Pipeline) -> Result<Vec<Value>, Error> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(mut wire) => self.judged(generation, wire.pipe(pipe).await),
            Err(error) => Err(self.not_connected(generation, error)),
        }
    }

    fn wire(&self) -> (u64, Connecting) {
        let mut state = self.state();
        let failures = state.failures;
        let wire = state
            .wire
            .get_or_insert_with(|| connecting(Arc::clone(&self.0), backoff(failures)))
            .clone();
        (state.generation, wire)
    }

    fn judged<T>(&self, generation: u64, reply: RedisResult<T>) -> Result<T, Error> {
        let reply = reply.map_err(Error::from_redis);
        let mut state = self.state();
        match &reply {
            Err(Error::Unreachable(error)) if state.lose(generation) => {
                tracing::debug!(%error, "lost the connection to Redis");
            }
            Err(Error::Unreachable(_)) => {}
            _ => state.answered(generation),
        }
        reply
    }

    /// Whatever the reason is, the next call connects anew: a password may be right by then.
    fn not_connected(&self, generation: u64, error: RedisError) -> Error {
        self.state().lose(generation);
        Error::from_redis(error)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether it was a good connection until now.
    fn lose(&mut self, generation: u64) -> bool {
        if self.generation != generation {
            return false;
        }
        let was_good = self.failures == 0;
        self.wire = None;
        self.generation += 1;
        self.failures = self.failures.saturating_add(1);
        was_good
    }

    fn answered(&mut self, generation: u64) {
        if self.generation == generation && self.failures > 0 {
            tracing::debug!(attempts = self.failures, "reached Redis again");
            self.failures = 0;
        }
    }
}

fn connecting(shape: Arc<Shape>, delay: Duration) -> Connecting {
    async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        // The client bounds each of its steps; this bounds them all.
        let wire = shape.topology.open(shape.connect, shape.response);
        tokio::time::timeout(shape.connect, wire)
            .await
            .unwrap_or_else(|_| {
                Err(RedisError::from(std::io::Error::from(
                    std::io::ErrorKind::TimedOut,
                )))
            })
    }
    .boxed()
    .shared()
}

/// How long to wait before the next try, after so many failed ones: not at all at first, then 50 ms doubled with each failure, and between half and all of that, so that a fleet that lost its
/// server does not return as one.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let full = Duration::from_millis(50)
        .saturating_mul(1 << (failures - 1).min(10))
        .min(MAX_BACKOFF);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_between_attempts_grows_to_its_bound() {
        assert_eq!(backoff(0), Duration::ZERO);
        for failures in 1..40 {
            let wait = backoff(failures);
            assert!(wait >= Duration::from_millis(25) && wait <= MAX_BACKOFF);
        }
        assert!(backoff(u32::MAX) >= MAX_BACKOFF / 2);
    }
}
