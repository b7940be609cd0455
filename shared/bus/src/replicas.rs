//! Waits until replicas have what a script wrote, where that is asked for: what they have outlives a failover.
//!
//! `WAIT` speaks of all that the server had written when the command before it on the same connection was done. So it
//! follows the script in one pipeline: whatever happens to the connection or to the master, it never speaks of another
//! server's writes, and it covers what an earlier try of the same script wrote. It stops its connection meanwhile; so
//! scripts that are waited for have a connection of their own, and one of them is under way at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::lease::millis;
use crate::reply::read;

/// Once too few replicas had something in time nobody waits for so long, and then one does: a fleet whose replicas are
/// away goes on, and tells so.
const PAUSE: Duration = Duration::from_secs(5);

/// Whether as many replicas as asked for have what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicated {
    /// It was not asked for.
    Unasked,
    Enough,
    /// Only so many have it yet: it is done, and a failover now may undo it.
    Short(u32),
}

/// How many replicas are waited for, and how it went.
pub(crate) struct Replicas {
    wanted: u32,
    /// The longest wait for them.
    patience: Duration,
    turn: Semaphore,
    /// When somebody waited in vain last, and how many there were. By hash tag: shards may be on several masters.
    short: Mutex<HashMap<String, (Instant, u32)>>,
    counted: Arc<AtomicU64>,
}

impl Replicas {
    /// `counted` is how many writes too few have.
    pub(crate) fn new(wanted: u32, patience: Duration, counted: Arc<AtomicU64>) -> Self {
        Self {
            wanted,
            patience,
            turn: Semaphore::new(1),
            short: Mutex::default(),
            counted,
        }
    }

    /// The turn to wait behind a script of that hash tag; or how many replicas there are, when nobody waits now.
    pub(crate) async fn turn(&self, tag: &str) -> Result<SemaphorePermit<'_>, Replicated> {
        self.known(tag).map_or(Ok(()), Err)?;
        let turn = self.turn.acquire().await;
        // Nobody closes it.
        let turn = turn.map_err(|_| Replicated::Short(0))?;
        // Who had the turn before may have waited in vain.
        self.known(tag).map_or(Ok(turn), Err)
    }

    fn known(&self, tag: &str) -> Option<Replicated> {
        let (at, have) = *self.short().get(tag)?;
        (at.elapsed() < PAUSE).then_some(Replicated::Short(have))
    }

    /// The command that waits.
    pub(crate) fn wait(&self) -> redis::Cmd {
        let mut wait = redis::cmd("WAIT");
        wait.arg(self.wanted).arg(millis(self.patience));
        wait
    }

    /// What the reply to it says. One that is an error, as a master gives that is made a replica meanwhile, tells of none.
    pub(crate) fn told(&self, tag: &str, reply: redis::Value) -> Replicated {
        let have = reply
            .extract_error()
            .ok()
            .and_then(|reply| read(reply).ok());
        let have = have.unwrap_or(0);
        if have >= self.wanted {
            if self.short().remove(tag).is_some() {
                tracing::info!(
                    shard = tag,
                    "as many replicas as asked for have what is written again"
                );
            }
            return Replicated::Enough;
        }
        let now = Instant::now();
        if self.short().insert(tag.to_owned(), (now, have)).is_none() {
            tracing::warn!(
                shard = tag,
                have,
                wanted = self.wanted,
                "fewer replicas than asked for have what is written: it is done, and a failover now would undo it"
            );
        }
        Replicated::Short(have)
    }

    pub(crate) fn count(&self, replicated: Replicated) {
        if matches!(replicated, Replicated::Short(_)) {
            self.counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn short(&self) -> MutexGuard<'_, HashMap<String, (Instant, u32)>> {
        // Nothing panics while it is held.
        self.short.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    #[tokio::test(start_paused = true)]
    async fn once_one_waited_in_vain_nobody_waits_for_a_while() {
        let replicas = Replicas::new(2, Duration::from_secs(1), Arc::default());
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
