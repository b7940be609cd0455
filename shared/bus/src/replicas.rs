//! Waits until replicas have what a script wrote, where that is asked for: what they have outlives a failover.
//!
//! `WAIT` speaks of all that the server had written when the command before it on the same connection was done. So it
//! follows the script in one pipeline: whatever happens to the connection or to the master, it never speaks of another
//! server's writes, and it covers what an earlier try of the same script wrote. It stops its connection meanwhile; so
//! scripts that are waited for have a connection of their own, and of those of one place one is under way at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::lease::millis;
use crate::reply::read;

/// Once too few replicas had something in time, nobody waits there for so long, and then one does: a fleet whose replicas
/// are away goes on, and tells so.
const PAUSE: Duration = Duration::from_secs(10);
/// And one alone waits in full within that time, the others so long: a master without replicas may have many shards.
const GLANCE: Duration = Duration::from_millis(100);
/// Once a master did not answer nobody waits there for so long: who stood behind would find that out one after the other.
const LOST: Duration = Duration::from_secs(1);

/// Whether as many replicas as asked for have what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicated {
    /// It was not asked for.
    Unasked,
    Enough,
    /// Only so many are known to have it yet: it is done, and a failover now may undo it.
    Short(u32),
}

/// How many replicas are waited for, and how it went.
pub(crate) struct Replicas {
    wanted: u32,
    /// The longest wait for them.
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
    /// When somebody waited in full, in vain.
    full: Option<Instant>,
}

/// What has one master.
struct Place {
    turn: Arc<Semaphore>,
    /// Until when nobody waits, and how many replicas there were.
    short: Option<(Instant, u32)>,
    /// Whether people were told that there are too few.
    is_told: bool,
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

    /// The turn to wait behind a script of that hash tag; or how many replicas there are, when nobody waits now.
    pub(crate) async fn turn(&self, tag: &str) -> Result<OwnedSemaphorePermit, Replicated> {
        let turn = self.known(tag)?;
        // Nobody closes it.
        let turn = turn.acquire_owned().await;
        let turn = turn.map_err(|_| Replicated::Short(0))?;
        // Who had the turn before may have waited in vain.
        self.known(tag).map(|_| turn)
    }

    fn known(&self, tag: &str) -> Result<Arc<Semaphore>, Replicated> {
        self.at(tag, |place, _| match place.short {
            Some((until, have)) if Instant::now() < until => Err(Replicated::Short(have)),
            _ => Ok(Arc::clone(&place.turn)),
        })
    }

    /// The command that waits.
    pub(crate) fn wait(&self) -> redis::Cmd {
        let full = self.state().full;
        let time = match full.is_some_and(|at| at.elapsed() < PAUSE) {
            true => self.patience.min(GLANCE),
            false => self.patience,
        };
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.wanted).arg(millis(time));
        wait
    }

    /// What the reply to it says. One that is an error, as a master gives that is made a replica meanwhile, tells of none.
    pub(crate) fn told(&self, tag: &str, reply: redis::Value) -> Replicated {
        let have = reply.extract_error().ok();
        let have = have.and_then(|reply| read(reply).ok()).unwrap_or(0);
        let (wanted, now) = (self.wanted, Instant::now());
        self.at(tag, |place, full| {
            let is_enough = have >= wanted;
            let was_told = std::mem::replace(&mut place.is_told, !is_enough);
            if is_enough {
                place.short = None;
                if was_told {
                    tracing::info!(shard = tag, "enough replicas have what is written again");
                }
                return Replicated::Enough;
            }
            place.short = Some((now + PAUSE, have));
            if full.is_none_or(|at| at.elapsed() >= PAUSE) {
                *full = Some(now);
            }
            if !was_told {
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
    pub(crate) fn lost(&self, tag: &str) {
        let until = Instant::now() + LOST;
        self.at(tag, |place, _| {
            place.short = place.short.max(Some((until, 0)));
        });
    }

    pub(crate) fn count(&self, replicated: Replicated) {
        if matches!(replicated, Replicated::Short(_)) {
            self.counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at<T>(&self, tag: &str, act: impl FnOnce(&mut Place, &mut Option<Instant>) -> T) -> T {
        let mut state = self.state();
        let State { places, full } = &mut *state;
        let place = places.entry(if self.is_cluster { tag } else { "" }.to_owned());
        act(place.or_insert_with(Place::new), full)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::*;
    use redis::Value;

    fn time(replicas: &Replicas) -> String {
        let wait = String::from_utf8(replicas.wait().get_packed_command()).unwrap();
        wait.split("\r\n").nth(6).unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_shards_without_replicas_one_is_waited_for_in_full() {
        let replicas = Replicas::new((1, Duration::from_secs(1)), true, Arc::default());
        assert_eq!(time(&replicas), "1000");
        for tag in ["0", "1", "2"] {
            replicas.told(tag, Value::Int(0));
            assert_eq!(time(&replicas), "100");
        }
        assert_eq!(replicas.told("3", Value::Int(1)), Replicated::Enough);
        assert_eq!(time(&replicas), "100");
        tokio::time::advance(PAUSE).await;
        assert_eq!(time(&replicas), "1000");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_behind_a_master_that_does_not_answer_does_not_wait_for_it_too() {
        for is_cluster in [true, false] {
            let patience = Duration::from_secs(1);
            let replicas = Replicas::new((1, patience), is_cluster, Arc::default());
            let first = replicas.turn("0").await.unwrap();
            let second = replicas.turn("0");
            replicas.lost("0");
            drop(first);
            assert_eq!(second.await.err(), Some(Replicated::Short(0)));
            // Another shard may have another master in a cluster alone.
            assert_eq!(replicas.turn("1").await.is_ok(), is_cluster);
            tokio::time::advance(LOST).await;
            assert!(replicas.turn("0").await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_one_waited_in_vain_nobody_waits_for_a_while() {
        let replicas = Replicas::new((2, Duration::from_secs(1)), true, Arc::default());
        let first = replicas.turn("0").await.unwrap();
        let second = replicas.turn("0");
        assert_eq!(replicas.told("0", Value::Int(1)), Replicated::Short(1));
        drop(first);
        assert_eq!(second.await.err(), Some(Replicated::Short(1)));
        assert!(replicas.turn("1").await.is_ok());
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert!(replicas.turn("0").await.is_err());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(replicas.turn("0").await.is_ok());
        assert_eq!(replicas.told("0", Value::Nil), Replicated::Short(0));
        assert_eq!(replicas.turn("0").await.err(), Some(Replicated::Short(0)));
        assert_eq!(replicas.told("0", Value::Int(2)), Replicated::Enough);
        assert!(replicas.turn("0").await.is_ok());
    }
}
