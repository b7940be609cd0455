//! Waits until replicas have what a script wrote, where that is asked for: what they have outlives a failover.
//!
//! `WAIT` speaks of what its own connection wrote (Redis 7 also of all that its server had written before). So it follows the
//! script in one pipeline: whatever happens to the connection or to the master, it never speaks of another server's writes;
//! and of a script that finds its work done by an earlier try nothing is known. It stops its connection meanwhile; so scripts
//! that are waited for have a connection of their own, and of those of one place one is under way at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::lease::millis;
use crate::reply::read;

/// Once too few replicas had something in time, nobody waits there for so long, and then one does: a fleet whose replicas
/// are away goes on, and tells so.
const PAUSE: Duration = Duration::from_secs(10);
/// And of those places one alone waits in full within that time, the others so long: a master without replicas may have many
/// shards.
const GLANCE: Duration = Duration::from_millis(100);
/// Once a master did not answer nobody waits there for so long: who stood behind would find that out one after the other.
const LOST: Duration = Duration::from_secs(1);

/// Whether as many replicas as asked for have what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicated {
    /// It was not asked for.
    Unasked,
    Enough,
    /// Only so many are known to have it yet, 0 where nobody waited: it is done, and a failover now may undo it.
    Short(u32),
}

impl Replicated {
    /// Of two writes that of which fewer replicas are known to have it.
    #[must_use]
    pub fn or_fewer(self, other: Self) -> Self {
        match (self, other) {
            (Self::Short(one), Self::Short(another)) => Self::Short(one.min(another)),
            (Self::Short(_), _) => self,
            (_, other) => other,
        }
    }

    /// Of what was not written now.
    pub(crate) fn unknown(self) -> Self {
        match self {
            Self::Unasked => Self::Unasked,
            Self::Enough | Self::Short(_) => Self::Short(0),
        }
    }
}

/// How many replicas are waited for, and how it went.
pub(crate) struct Replicas {
    wanted: u32,
    /// The longest wait for them, and before it for the turn.
    patience: Duration,
    /// Whether shards may have different masters.
    is_cluster: bool,
    state: Mutex<State>,
    counted: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    /// By hash tag in a cluster; one alone elsewhere.
    places: HashMap<String, Place>,
    /// When somebody last waited in full where it was in vain before.
    full: Option<Instant>,
    /// Waits under way. Those of one master follow each other on its connection.
    waits: u32,
}

/// What has one master.
struct Place {
    turn: Arc<Semaphore>,
    /// Until when nobody waits.
    short: Option<Instant>,
    /// Whether people were told that there are too few.
    is_told: bool,
}

/// The turn to run a script and wait behind it.
pub(crate) struct Turn<'a> {
    replicas: &'a Replicas,
    tag: &'a str,
    patience: Duration,
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
            patience,
            is_cluster,
            state: Mutex::default(),
            counted,
        }
    }

    /// The turn for a script of that hash tag. `None`: nobody waits there now, or too many do.
    pub(crate) async fn turn<'a>(&'a self, tag: &'a str) -> Option<Turn<'a>> {
        let turn = self.open(tag)?;
        let permit = timeout(self.patience, turn.acquire_owned()).await;
        // Nobody closes it.
        let permit = permit.ok()?.ok()?;
        // Who had the turn before may have waited in vain.
        self.open(tag)?;
        let patience = self.begin(tag);
        Some(Turn {
            replicas: self,
            tag,
            patience,
            _permit: permit,
        })
    }

    fn open(&self, tag: &str) -> Option<Arc<Semaphore>> {
        self.at(tag, |place, _| match place.short {
            Some(until) if Instant::now() < until => None,
            _ => Some(Arc::clone(&place.turn)),
        })
    }

    /// How long it waits.
    fn begin(&self, tag: &str) -> Duration {
        let mut state = self.state();
        let waits = state.waits;
        state.waits += 1;
        drop(state);
        self.at(tag, |place, full| {
            if !place.is_told {
                // Several that find a master without replicas at once do not add up to more than an answer may take.
                return self.patience / (waits + 1);
            }
            if full.is_some_and(|at| at.elapsed() < PAUSE) {
                return self.patience.min(GLANCE);
            }
            *full = Some(Instant::now());
            self.patience
        })
    }

    pub(crate) fn count(&self, replicated: Replicated) {
        if matches!(replicated, Replicated::Short(_)) {
            self.counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at<T>(&self, tag: &str, act: impl FnOnce(&mut Place, &mut Option<Instant>) -> T) -> T {
        let mut state = self.state();
        let State { places, full, .. } = &mut *state;
        let place = places.entry(if self.is_cluster { tag } else { "" }.to_owned());
        act(place.or_insert_with(Place::new), full)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The command that waits.
    pub(crate) fn wait(&self) -> redis::Cmd {
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.replicas.wanted).arg(millis(self.patience));
        wait
    }

    /// What the reply to it says. One that is an error, as a master gives that is made a replica meanwhile, tells of none.
    pub(crate) fn told(&self, reply: redis::Value) -> Replicated {
        let have = reply.extract_error().ok();
        let have = have.and_then(|reply| read(reply).ok()).unwrap_or(0);
        let (tag, wanted, now) = (self.tag, self.replicas.wanted, Instant::now());
        self.replicas.at(tag, |place, full| {
            let is_enough = have >= wanted;
            let was_told = std::mem::replace(&mut place.is_told, !is_enough);
            if is_enough {
                place.short = None;
                if was_told {
                    tracing::info!(shard = tag, "enough replicas have what is written again");
                }
                return Replicated::Enough;
            }
            place.short = Some(now + PAUSE);
            if !was_told {
                *full = Some(now);
                tracing::warn!(
                    shard = tag,
                    have,
                    wanted,
                    "too few replicas have what is written: it is done, and a failover now would undo it"
                );
            }
            Replicated::Short(have)
        })
    }

    /// The master did not answer.
    pub(crate) fn lost(&self) {
        let until = Instant::now() + LOST;
        self.replicas.at(self.tag, |place, _| {
            place.short = place.short.max(Some(until));
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.replicas.state().waits -= 1;
    }
}

impl Place {
    fn new() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            short: None,
            is_told: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;
    use redis::Value;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn replicas(wanted: u32, is_cluster: bool) -> Replicas {
        Replicas::new((wanted, SECOND), is_cluster, Arc::default())
    }

    /// Has its turn, and how many replicas have it.
    async fn waits(replicas: &Replicas, tag: &str, have: i64) -> (Duration, Replicated) {
        let turn = replicas.turn(tag).await.expect("its turn");
        (turn.patience, turn.told(Value::Int(have)))
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_shards_without_replicas_one_is_waited_for_in_full() {
        let replicas = replicas(1, true);
        let together: Vec<_> = [
            replicas.turn("0").await.unwrap(),
            replicas.turn("1").await.unwrap(),
            replicas.turn("2").await.unwrap(),
        ]
        .into();
        let all: Duration = together.iter().map(|turn| turn.patience).sum();
        assert!(all < SECOND * 2, "{all:?}");
        for turn in &together {
            assert_eq!(turn.told(Value::Int(0)), Replicated::Short(0));
        }
        drop(together);
        // Where there are replicas it is waited for in full.
        assert_eq!(waits(&replicas, "3", 1).await, (SECOND, Replicated::Enough));
        tokio::time::advance(PAUSE).await;
        assert_eq!(waits(&replicas, "0", 0).await.0, SECOND);
        assert_eq!(waits(&replicas, "1", 0).await.0, GLANCE);
        assert_eq!(waits(&replicas, "2", 1).await.0, GLANCE);
        assert_eq!(waits(&replicas, "2", 1).await.0, SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_behind_a_master_that_does_not_answer_does_not_wait_for_it_too() {
        for is_cluster in [true, false] {
            let replicas = replicas(1, is_cluster);
            let first = replicas.turn("0").await.unwrap();
            let mut second = pin!(replicas.turn("0"));
            assert!(poll!(&mut second).is_pending());
            first.lost();
            drop(first);
            assert!(second.await.is_none());
            // Another shard may have another master in a cluster alone.
            assert_eq!(replicas.turn("1").await.is_some(), is_cluster);
            tokio::time::advance(LOST).await;
            assert!(replicas.turn("0").await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_one_waited_in_vain_nobody_waits_for_a_while() {
        let replicas = replicas(2, true);
        let first = replicas.turn("0").await.unwrap();
        let mut second = pin!(replicas.turn("0"));
        assert!(poll!(&mut second).is_pending());
        assert_eq!(first.told(Value::Int(1)), Replicated::Short(1));
        drop(first);
        assert!(second.await.is_none());
        assert!(replicas.turn("1").await.is_some());
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(replicas.turn("0").await.is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        let nothing = replicas.turn("0").await.unwrap().told(Value::Nil);
        assert_eq!(nothing, Replicated::Short(0));
        assert!(replicas.turn("0").await.is_none());
        tokio::time::advance(PAUSE).await;
        assert_eq!(waits(&replicas, "0", 2).await.1, Replicated::Enough);
        assert!(replicas.turn("0").await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_their_turn_for_longer_than_for_replicas() {
        let replicas = replicas(1, false);
        let _first = replicas.turn("0").await.unwrap();
        let asked = Instant::now();
        assert!(replicas.turn("0").await.is_none());
        assert_eq!(asked.elapsed(), SECOND);
    }
}
