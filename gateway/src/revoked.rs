//! The tokens that count no more, as this node knows them: all of them, and each new one within moments.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Feeds, Revocation, Revoked as What};
use tokio::sync::watch;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::app::now;
use crate::auth::Identity;

/// After Redis refused: it may change its mind.
const PAUSE: Duration = Duration::from_secs(1);
/// With so many more, those that are over are removed.
const MANY: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Revoked {
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
    is_whole: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<What, Revocation>,
    /// Those that were there when it was last cleaned.
    kept: usize,
}

impl Revoked {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::default(),
            changes: watch::Sender::new(0),
            is_whole: AtomicBool::new(false),
        }
    }

    /// Whether a token of this identity counts no more. One that does not say when it was issued is taken for old.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        let table = self.table();
        let user = What::User(identity.sub.clone());
        let token = identity.jti.clone().map(What::Token);
        [Some(user), token].into_iter().flatten().any(|what| {
            let revocation = table.all.get(&what);
            revocation.is_some_and(|it| identity.issued_at.is_none_or(|issued| issued <= it.at))
        })
    }

    /// Changes with each revocation: whoever has a token looks again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether all that there were at the start are known: before, a token may be let in that should not be.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// Hears of them until `end`.
    pub(crate) async fn follow(&self, feeds: &Feeds, end: CancellationToken) {
        let mut revocations = feeds.revocations();
        let mut looks = interval(PAUSE / 4);
        loop {
            tokio::select! {
                next = revocations.next() => match next {
                    Ok(revocation) => self.add(revocation),
                    Err(error) => {
                        tracing::warn!(%error, "revocations are not heard of");
                        sleep(PAUSE).await;
                    }
                },
                _ = looks.tick() => {}
                () = end.cancelled() => return,
            }
            self.is_whole
                .fetch_or(revocations.is_caught_up(), Ordering::Relaxed);
        }
    }

    fn add(&self, revocation: Revocation) {
        let mut table = self.table();
        table.all.insert(revocation.what.clone(), revocation);
        if table.all.len() > table.kept + MANY {
            let now = now().unix;
            table.all.retain(|_, revocation| revocation.until >= now);
            table.kept = table.all.len();
        }
        drop(table);
        self.changes.send_modify(|count| *count += 1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
