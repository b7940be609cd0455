//! Waits until replicas have what scripts did, where that is asked for: what they have outlives a failover.
//!
//! Replication is one ordered stream. So behind scripts goes one small write, and `WAIT` for it, in one pipeline: a replica that
//! confirms it has all that its master did before, by whichever try and on whatever connection. (`WAIT` alone speaks of its own
//! connection's writes, which on a new one, or behind a script that found its work done, are none.) What is told is told of one
//! master, whatever happens to the connection meanwhile.
//!
//! A `WAIT` stops its connection. So scripts that are waited for have a connection of their own, and of those of one master
//! one batch is under way at a time: a wait in vain delays the next by that long, and then nobody waits there for a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::keys::{slot, tag};
use crate::lease::millis;
use crate::reply::read;

/// Once too few replicas had something in time, nobody waits there for so long, and then one does: a fleet whose replicas
/// are away goes on, and tells so. Also how old what is known of the cluster's masters may be.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether as many replicas as asked for have what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicated {
    /// It was not asked for.
    Unasked,
    Enough,
    /// Only so many confirmed it in time: it is done, and a failover now may undo it.
    Short(u32),
    /// Nobody waited, since others had just waited in vain or for long, or Redis did not say: it is done, and a failover
    /// now may undo it.
    Unknown,
}

impl Replicated {
    /// Of two writes that of which fewer replicas are known to have it.
    #[must_use]
    pub fn or_fewer(self, other: Self) -> Self {
        match (self, other) {
            (Self::Short(one), Self::Short(another)) => Self::Short(one.min(another)),
            (short @ Self::Short(_), _) | (_, short @ Self::Short(_)) => short,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (_, other) => other,
        }
    }

    /// In a word: `enough`, `short` or `unknown`; none where it was not asked for.
    #[must_use]
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Unasked => None,
            Self::Enough => Some("enough"),
            Self::Short(_) => Some("short"),
            Self::Unknown => Some("unknown"),
        }
    }

    /// How many have it, where they are too few.
    #[must_use]
    pub fn short(self) -> Option<u32> {
        match self {
            Self::Short(have) => Some(have),
            Self::Unasked | Self::Enough | Self::Unknown => None,
        }
    }
}

/// How many replicas are waited for, and how it went.
pub(crate) struct Replicas {
    wanted: u32,
    /// The longest wait for them, and before it for the turn.
    patience: Duration,
    is_cluster: bool,
    state: Mutex<State>,
    counted: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    masters: Masters,
    /// When the cluster told, or would not.
    told: Option<Instant>,
    /// By the master's id.
    places: HashMap<String, Place>,
}

/// The masters of a cluster by their slots, as it told last: the first, the last, the master's id. Of no effect on what is
/// told, only on who waits for whom.
#[derive(Default)]
struct Masters(Vec<(u16, u16, String)>);

/// What has one master.
struct Place {
    turn: Arc<Semaphore>,
    /// Until when nobody waits.
    short: Option<Instant>,
    /// Whether people were told that there are too few.
    is_told: bool,
}

/// The turn to send a batch and wait behind it.
pub(crate) struct Turn<'a> {
    replicas: &'a Replicas,
    probe: &'a str,
    place: String,
    /// Whether the cluster is asked for its masters too.
    asks: bool,
    _permit: OwnedSemaphorePermit,
}

impl Replicas {
    /// `counted` is how many writes too few have.
    pub(crate) fn new(
        (wanted, patience): (u32, Duration),
        is_cluster: bool,
        counted: Arc<AtomicU64>,
    ) -> Self {
        Self {
            wanted,
            // WAIT 0 would never end.
            patience: patience.max(Duration::from_millis(1)),
            is_cluster,
            state: Mutex::default(),
            counted,
        }
    }

    /// The turn for scripts of that key's hash tag. `None`: nobody waits there now, or one has for too long.
    pub(crate) async fn turn<'a>(&'a self, probe: &'a str) -> Option<Turn<'a>> {
        let (place, turn) = self.open(probe)?;
        let permit = timeout(self.patience, turn.acquire_owned()).await;
        // Nobody closes it.
        let permit = permit.ok()?.ok()?;
        // Who had the turn before may have waited in vain.
        self.open(probe)?;
        Some(Turn {
            replicas: self,
            probe,
            place,
            asks: self.asks(),
            _permit: permit,
        })
    }

    fn open(&self, probe: &str) -> Option<(String, Arc<Semaphore>)> {
        let mut state = self.state();
        let name = state.masters.of(probe).to_owned();
        let place = state.place(&name);
        let is_open = place.short.is_none_or(|until| until <= Instant::now());
        is_open.then(|| (name, Arc::clone(&place.turn)))
    }

    /// Whether it is time to ask a cluster for its masters.
    fn asks(&self) -> bool {
        let told = self.state().told;
        self.is_cluster && told.is_none_or(|at| at.elapsed() >= PAUSE)
    }

    /// Counts what was done and is not known to be on enough of them.
    pub(crate) fn count(&self, replicated: Replicated) {
        if matches!(replicated, Replicated::Short(_) | Replicated::Unknown) {
            self.counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Adds what asks for it.
    pub(crate) fn ask(&self, pipe: &mut Pipeline) {
        pipe.cmd("SET").arg(self.probe).arg("");
        pipe.cmd("WAIT")
            .arg(self.replicas.wanted)
            .arg(millis(self.replicas.patience));
        if self.asks {
            pipe.cmd("CLUSTER").arg("SLOTS");
        }
    }

    /// What the replies to that say.
    pub(crate) fn told(&self, replies: Vec<Value>) -> Replicated {
        let mut replies = replies.into_iter().map(|reply| reply.extract_error().ok());
        let (written, waited, slots) = (replies.next(), replies.next(), replies.next());
        if self.asks {
            let mut state = self.replicas.state();
            state.told = Some(Instant::now());
            state.masters = slots.flatten().and_then(Masters::read).unwrap_or_default();
        }
        // A master that refuses the write has not done what is before it, or is none any more.
        let have = written.flatten().and(waited.flatten());
        match have.and_then(|have| read::<u32>(have).ok()) {
            Some(have) => self.learn(have),
            None => Replicated::Unknown,
        }
    }

    fn learn(&self, have: u32) -> Replicated {
        let wanted = self.replicas.wanted;
        let is_enough = have >= wanted;
        let mut state = self.replicas.state();
        let place = state.place(&self.place);
        place.short = (!is_enough).then(|| Instant::now() + PAUSE);
        let was_told = std::mem::replace(&mut place.is_told, !is_enough);
        drop(state);
        let shard = tag(self.probe);
        match (is_enough, was_told) {
            (true, true) => {
                tracing::info!(shard, "enough replicas have what is written again");
            }
            (false, false) => tracing::warn!(
                shard,
                have,
                wanted,
                "too few replicas have what is written: it is done, and a failover now would undo it"
            ),
            _ => {}
        }
        if is_enough {
            Replicated::Enough
        } else {
            Replicated::Short(have)
        }
    }
}

impl State {
    fn place(&mut self, name: &str) -> &mut Place {
        self.places.entry(name.to_owned()).or_insert_with(|| Place {
            turn: Arc::new(Semaphore::new(1)),
            short: None,
            is_told: false,
        })
    }
}

impl Masters {
    /// From the reply to `CLUSTER SLOTS`: of each range its ends, its master, its replicas; of each node its address, port, id.
    fn read(slots: Value) -> Option<Self> {
        let ranges: Vec<Vec<Value>> = read(slots).ok()?;
        let range = |range: Vec<Value>| {
            let mut parts = range.into_iter();
            let (first, last) = (read(parts.next()?).ok()?, read(parts.next()?).ok()?);
            let master: Vec<Value> = read(parts.next()?).ok()?;
            Some((first, last, read(master.into_iter().nth(2)?).ok()?))
        };
        ranges
            .into_iter()
            .map(range)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// The id of the one that has a key; of none outside of a cluster, and where it has not told yet.
    fn of(&self, key: &str) -> &str {
        let slot = slot(tag(key));
        let found = self
            .0
            .iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot));
        found.map_or("", |(.., master)| master)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn replicas(wanted: u32, is_cluster: bool) -> Replicas {
        Replicas::new((wanted, SECOND), is_cluster, Arc::default())
    }

    fn probe(shard: u16) -> String {
        format!("sf:{{{shard}}}:probe")
    }

    /// What the master answers to the write and to the wait.
    fn confirmed(have: i64) -> Vec<Value> {
        vec![Value::Okay, Value::Int(have)]
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    /// Of two masters, that the first half of the slots and the other half are on.
    fn slots() -> Value {
        let range = |first, last, id| {
            let master = Value::Array(vec![text("h"), Value::Int(1), text(id)]);
            let replica = Value::Array(vec![text("h"), Value::Int(2), text("replica")]);
            Value::Array(vec![Value::Int(first), Value::Int(last), master, replica])
        };
        Value::Array(vec![range(0, 8_191, "m1"), range(8_192, 16_383, "m2")])
    }

    /// Two shards of the same master and one of the other's.
    fn shards() -> (String, String, String) {
        let half = |shard: &u16| slot(&shard.to_string()) < 8_192;
        let (low, high): (Vec<u16>, Vec<u16>) = (0..8).partition(half);
        (probe(low[0]), probe(low[1]), probe(high[0]))
    }

    #[tokio::test(start_paused = true)]
    async fn once_one_waited_in_vain_nobody_waits_for_a_while() {
        let (replicas, probe) = (replicas(2, false), probe(0));
        let first = replicas.turn(&probe).await.unwrap();
        let mut second = pin!(replicas.turn(&probe));
        assert!(poll!(&mut second).is_pending());
        assert_eq!(first.told(confirmed(1)), Replicated::Short(1));
        drop(first);
        assert!(second.await.is_none());
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(replicas.turn(&probe).await.is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        let again = replicas.turn(&probe).await.unwrap();
        assert_eq!(again.told(confirmed(2)), Replicated::Enough);
        drop(again);
        assert!(replicas.turn(&probe).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_shards_of_one_master_take_turns_and_those_of_another_do_not_wait_for_them() {
        let replicas = replicas(1, true);
        let (one, beside, other) = shards();
        let first = replicas.turn(&one).await.unwrap();
        let told = [confirmed(1), vec![slots()]].concat();
        assert_eq!(first.told(told), Replicated::Enough);
        drop(first);
        let first = replicas.turn(&one).await.unwrap();
        assert!(poll!(pin!(replicas.turn(&beside))).is_pending());
        assert!(poll!(pin!(replicas.turn(&other))).is_ready());
        assert_eq!(first.told(confirmed(0)), Replicated::Short(0));
        drop(first);
        assert!(replicas.turn(&beside).await.is_none());
        assert!(replicas.turn(&other).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_alone_is_asked_for_its_masters_and_now_and_then() {
        let (cluster, probe) = (replicas(1, true), probe(0));
        assert!(!replicas(1, false).turn(&probe).await.unwrap().asks);
        let asks = async |answer: Value| {
            let turn = cluster.turn(&probe).await.unwrap();
            turn.told([confirmed(1), vec![answer]].concat());
            turn.asks
        };
        assert!(asks(slots()).await);
        assert!(!asks(slots()).await);
        tokio::time::advance(PAUSE).await;
        // One that would not tell is not asked each time.
        assert!(asks(Value::Nil).await);
        assert!(!asks(slots()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_master_that_refuses_the_write_says_nothing_of_replicas() {
        let (replicas, probe) = (replicas(1, false), probe(0));
        let refusal = |code: &str| {
            let reply = format!("-{code} no\r\n");
            redis::parse_redis_value(reply.as_bytes()).expect("an error reply")
        };
        for replies in [
            vec![refusal("NOREPLICAS"), Value::Int(0)],
            vec![Value::Okay, refusal("READONLY")],
            vec![],
        ] {
            let turn = replicas.turn(&probe).await.unwrap();
            assert_eq!(turn.told(replies), Replicated::Unknown);
        }
        assert!(replicas.turn(&probe).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_their_turn_for_longer_than_for_replicas() {
        let (replicas, probe) = (replicas(1, false), probe(0));
        let _first = replicas.turn(&probe).await.unwrap();
        let asked = Instant::now();
        assert!(replicas.turn(&probe).await.is_none());
        assert_eq!(asked.elapsed(), SECOND);
    }
}
