//! A link to Redis that rebuilds its connection by itself.
//!
//! Every wait has an end. The client's own default timeout of 500 ms would cut blocking reads, and no timeout at all
//! would hang on a wedged server that still answers TCP; so each link states its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use redis::cluster_async::ClusterConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::time::Instant;

use crate::Error;
use crate::batch::Batches;
use crate::connect::{Topology, Wire};
use crate::replicas::{Replicas, Replicated};
use crate::script::by_text;
use crate::settings::Settings;

/// How long after one connection was found dead the others are not doubted again: where Redis stays away they would be
/// opened again and again.
const DOUBTED: Duration = Duration::from_secs(10);

pub(crate) type Connecting = Shared<BoxFuture<'static, RedisResult<Wire>>>;

/// A connection shared by everyone who holds a clone. Who uses it tells people that Redis is away: a program has several
/// links, and they would all say the same. It connects when first used; after a drop or a timeout the next
/// call connects anew, and all calls of that moment wait for the one attempt.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shape>);

struct Shape {
    topology: Topology,
    connect: Duration,
    response: Duration,
    reconnect: Duration,
    /// Of scripts that are waited for.
    batches: Option<Arc<Batches>>,
    /// Shared with links that would find out for themselves what this one has found out.
    doubt: Arc<Doubt>,
    state: Mutex<State>,
}

/// When a connection was last found dead, of several links to the same Redis. A server that hangs looks well to whoever has not
/// asked it anything: each would wait for an answer of its own, one after the other, though another has taken its place.
#[derive(Default)]
struct Doubt(Mutex<Option<Instant>>);

#[derive(Default)]
struct State {
    wire: Option<Connecting>,
    /// Since when there is one.
    since: Option<Instant>,
    /// Counts the connections, so that a late error of an old one does not close its successor.
    generation: u64,
    /// Connections lost since one was good.
    failures: u32,
}

impl Link {
    /// Waits at most `response` for an answer.
    pub(crate) fn new(topology: Topology, settings: &Settings, response: Duration) -> Self {
        Self(Arc::new(Shape {
            topology,
            connect: settings.timeout,
            response,
            reconnect: settings.reconnect,
            batches: None,
            doubt: Arc::default(),
            state: Mutex::default(),
        }))
    }

    /// One beside this, for scripts whose writes are to be on replicas too.
    pub(crate) fn replicating(&self, replicas: Replicas) -> Self {
        let doubt = Arc::clone(&self.0.doubt);
        self.0.another(self.0.response, Some(replicas), doubt)
    }

    /// One beside this, for who may be stopped by what they ask. It waits at most `response` for an answer.
    pub(crate) fn beside(&self, response: Duration) -> Self {
        self.0.another(response, None, Arc::clone(&self.0.doubt))
    }

    /// The same, for who asks so that others need not: what either finds dead does not close the other's connection.
    pub(crate) fn apart(&self, response: Duration) -> Self {
        self.0.another(response, None, Arc::default())
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.0.topology.is_cluster()
    }

    /// Whether the client itself sends again what it got no reply to: that of a cluster does, and tells nobody.
    pub(crate) fn sends_again(&self) -> bool {
        self.is_cluster()
    }

    pub(crate) async fn query(&self, cmd: &redis::Cmd) -> Result<Value, Error> {
        self.ask(cmd).await.map_err(|(error, _)| error)
    }

    /// The same; with an error whether Redis may have done it all the same.
    async fn ask(&self, cmd: &redis::Cmd) -> Result<Value, (Error, bool)> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(mut wire) => self.heard(generation, wire.query(cmd).await),
            // There was nothing to send it on.
            Err(error) => Err((self.not_connected(generation, error), false)),
        }
    }

    /// Runs a script, by its hash and by its text where that is not known yet, and waits for the replicas that are to have
    /// what it does. `probe` is its shard's.
    pub(crate) async fn run(
        &self,
        script: (redis::Cmd, &'static str),
        probe: String,
    ) -> Result<(Value, Replicated), (Error, bool)> {
        if let Some(batches) = &self.0.batches {
            return batches.run(self, script, probe).await;
        }
        let (by_hash, code) = script;
        let reply = match self.ask(&by_hash).await {
            Err((error, _)) if error.code() == Some("NOSCRIPT") => {
                // Seldom: in a box, so that no future has room for it.
                Box::pin(async { self.ask(&by_text(&by_hash, code)).await }).await
            }
            reply => reply,
        };
        Ok((reply?, Replicated::Unasked))
    }

    /// Counts what a script did, where it is not known to be on as many replicas as are waited for.
    pub(crate) fn count(&self, replicated: Replicated) {
        if let Some(batches) = &self.0.batches {
            batches.replicas.count(replicated);
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

    /// The same of keys of any shard.
    pub(crate) async fn each(&self, commands: &[redis::Cmd]) -> Result<Vec<Value>, Error> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(mut wire) => self.judged(generation, wire.each(commands).await),
            Err(error) => Err(self.not_connected(generation, error)),
        }
    }

    /// The connection to a cluster, if there is one, and its number.
    pub(crate) async fn cluster(&self) -> Option<(u64, ClusterConnection)> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(Wire::Cluster(wire)) => Some((generation, wire)),
            Ok(Wire::Single(_)) => None,
            Err(error) => {
                let error = self.not_connected(generation, error);
                tracing::debug!(%error, "no connection to the cluster");
                None
            }
        }
    }

    fn wire(&self) -> (u64, Connecting) {
        let mut state = self.state();
        if self.0.doubt.is_after(state.since) || state.is_abandoned(self.0.longest()) {
            state.close();
        }
        let (generation, failures) = (state.generation, state.failures);
        if state.wire.is_none() {
            state.since = Some(Instant::now());
        }
        let wire = state
            .wire
            .get_or_insert_with(|| self.0.connecting(failures))
            .clone();
        (generation, wire)
    }

    /// One reply for each command, refused or not, and the connection that they came on.
    pub(crate) async fn replies(
        &self,
        pipe: &redis::Pipeline,
    ) -> Result<(u64, Vec<Value>), (Error, bool)> {
        let (generation, connecting) = self.wire();
        match connecting.await {
            Ok(mut wire) => {
                let replies = self.heard(generation, wire.replies(pipe).await)?;
                Ok((generation, replies))
            }
            Err(error) => Err((self.not_connected(generation, error), false)),
        }
    }

    /// What came of it; with an error whether Redis may have done it all the same.
    pub(crate) fn heard<T>(
        &self,
        generation: u64,
        reply: RedisResult<T>,
    ) -> Result<T, (Error, bool)> {
        self.judged(generation, reply).map_err(|error| {
            let is_unheard = error.is_unheard();
            (error, is_unheard)
        })
    }

    fn judged<T>(&self, generation: u64, reply: RedisResult<T>) -> Result<T, Error> {
        let reply = reply.map_err(Error::from_redis);
        match &reply {
            Err(Error::Unreachable(error)) => {
                if self.lose(generation) {
                    self.0.doubt.rise();
                    tracing::debug!(%error, "lost the connection to Redis");
                }
            }
            _ => self.state().answered(generation),
        }
        reply
    }

    /// Whatever the reason is, the next call connects anew: a password may be right by then.
    fn not_connected(&self, generation: u64, error: RedisError) -> Error {
        self.lose(generation);
        Error::from_redis(error)
    }

    /// Whether it was a good connection until now. The next call connects anew.
    pub(crate) fn lose(&self, generation: u64) -> bool {
        self.state().lose(generation)
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
        self.close();
        self.failures = self.failures.saturating_add(1);
        was_good
    }

    /// Whether nobody has waited for the attempt to connect since before it would have ended: it would end at once, with an
    /// error of back then.
    fn is_abandoned(&self, longest: Duration) -> bool {
        let is_under_way = self.wire.as_ref().is_some_and(|wire| wire.peek().is_none());
        is_under_way && self.since.is_some_and(|since| since.elapsed() > longest)
    }

    fn close(&mut self) {
        self.wire = None;
        self.since = None;
        self.generation += 1;
    }

    fn answered(&mut self, generation: u64) {
        if self.generation == generation && self.failures > 0 {
            tracing::debug!(attempts = self.failures, "reached Redis again");
            self.failures = 0;
        }
    }
}

impl Doubt {
    /// Of what was opened before now.
    fn rise(&self) {
        let mut at = self.at();
        if at.is_none_or(|at| at.elapsed() >= DOUBTED) {
            *at = Some(Instant::now());
        }
    }

    /// Whether what was opened then is to be opened anew.
    fn is_after(&self, since: Option<Instant>) -> bool {
        since.is_some_and(|since| self.at().is_some_and(|at| since < at))
    }

    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shape {
    /// A link to the same Redis: what one of those that share a doubt finds dead the others do not wait for.
    fn another(&self, response: Duration, replicas: Option<Replicas>, doubt: Arc<Doubt>) -> Link {
        Link(Arc::new(Self {
            topology: self.topology.clone(),
            connect: self.connect,
            response,
            reconnect: self.reconnect,
            batches: replicas.map(|replicas| Arc::new(Batches::new(replicas))),
            doubt,
            state: Mutex::default(),
        }))
    }

    /// What an attempt to connect takes at most, with the wait before it.
    fn longest(&self) -> Duration {
        self.connect + self.reconnect
    }

    fn connecting(&self, failures: u32) -> Connecting {
        let (connect, response) = (self.connect, self.response);
        let delay = backoff(failures, self.reconnect);
        connecting(&self.topology, delay, connect, move |topology| async move {
            topology.open(connect, response).await
        })
    }
}

/// Opens after `delay`, within `limit`: the client bounds each of its steps, this bounds them all.
pub(crate) fn connecting<F>(
    topology: &Topology,
    delay: Duration,
    limit: Duration,
    open: impl FnOnce(Topology) -> F,
) -> Connecting
where
    F: Future<Output = RedisResult<Wire>> + Send + 'static,
{
    let (topology, open) = (topology.clone(), open(topology.clone()));
    async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        tokio::time::timeout(limit, open)
            .await
            .unwrap_or_else(|_| Err(topology.silence()))
    }
    .boxed()
    .shared()
}

/// How long to wait before the next try, after so many failed ones: not at all at first, then 50 ms doubled with each
/// failure up to `longest`, and between half and all of that, so that a fleet that lost its server does not return as one.
#[must_use]
pub fn backoff(failures: u32, longest: Duration) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let full = Duration::from_millis(50)
        .saturating_mul(1 << (failures - 1).min(10))
        .min(longest);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests;
