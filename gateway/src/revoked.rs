//! The tokens that count no more, as this node knows them: all of them, and each new one within moments.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Feeds, Revocation, Revoked as What};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::now;
use crate::auth::{Identity, LEEWAY};

/// After Redis refused: it may change its mind.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a node that has just started is waited for.
const START: Duration = Duration::from_secs(2);
/// With so many more, those that are over are removed.
const MANY: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Revoked {
    table: Mutex<Table>,
    changes: watch::Sender<u64>,
    is_whole: watch::Sender<bool>,
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
            is_whole: watch::Sender::new(false),
        }
    }

    /// Whether a token of this identity counts no more. One that does not say when it was issued is taken for old; one that
    /// was issued a little later by a clock that may be ahead of ours, too.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        let table = self.table();
        let user = What::User(identity.sub.clone());
        let token = identity.jti.clone().map(What::Token);
        [Some(user), token].into_iter().flatten().any(|what| {
            let revocation = table.all.get(&what);
            let until = revocation.map(|it| it.at.saturating_add(LEEWAY.as_secs()));
            until.is_some_and(|until| identity.issued_at.is_none_or(|issued| issued <= until))
        })
    }

    /// Changes with each revocation: whoever has a token looks again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether all that there were at the start are known: before, nobody is let in. Redis may be away later: what is
    /// known counts until it is back, and then what was missed.
    pub(crate) fn is_whole(&self) -> bool {
        *self.is_whole.borrow()
    }

    /// The same, and waits for it a moment.
    pub(crate) async fn whole(&self) -> bool {
        if self.is_whole() {
            return true;
        }
        let mut is_whole = self.is_whole.subscribe();
        let waited = timeout(START, is_whole.wait_for(|is_whole| *is_whole)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Hears of them until `end`.
    pub(crate) async fn follow(&self, feeds: &Feeds, end: CancellationToken) {
        let mut revocations = feeds.revocations();
        loop {
            tokio::select! {
                next = revocations.next_or_caught_up() => match next {
                    Ok(Some(revocation)) => self.add(revocation),
                    Ok(None) => _ = self.is_whole.send_replace(true),
                    Err(error) => {
                        tracing::warn!(%error, "revocations are not heard of");
                        sleep(PAUSE).await;
                    }
                },
                () = end.cancelled() => return,
            }
        }
    }

    /// What is known never becomes less, whatever a Redis says that lost some of it.
    fn add(&self, Revocation { what, at, until }: Revocation) {
        let mut table = self.table();
        let known = table.all.entry(what.clone());
        let known = known.or_insert(Revocation { what, at, until });
        (known.at, known.until) = (known.at.max(at), known.until.max(until));
        if table.all.len() > table.kept + MANY {
            let (now, leeway) = (now().unix, LEEWAY.as_secs());
            let counts = |until: u64| until.saturating_add(leeway) >= now;
            table.all.retain(|_, revocation| counts(revocation.until));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn person(sub: &str) -> Identity {
        let json = serde_json::json!({
            "sub": sub, "name": sub, "jti": null, "issued_at": 5, "expires_at": 10, "stories": {},
        });
        serde_json::from_value(json).expect("an identity")
    }

    fn revocation(sub: &str, until: u64) -> Revocation {
        let what = What::User(sub.to_owned());
        Revocation { what, at: 5, until }
    }

    #[test]
    fn a_revocation_is_kept_for_as_long_as_its_tokens_are_taken() {
        let (revoked, now) = (Revoked::new(), now().unix);
        revoked.add(revocation("lately", now - LEEWAY.as_secs() / 2));
        revoked.add(revocation("long-ago", now - 2 * LEEWAY.as_secs()));
        for n in 0..MANY {
            revoked.add(revocation(&format!("u{n}"), now + 60));
        }
        assert!(revoked.has(&person("lately")));
        assert!(!revoked.has(&person("long-ago")));
        assert!(revoked.has(&person("u0")) && !revoked.has(&person("mira")));
    }

    #[test]
    fn a_token_of_a_clock_that_is_ahead_is_revoked_too_and_a_later_one_is_not() {
        let (revoked, now) = (Revoked::new(), now().unix);
        revoked.add(revocation("mira", now + 60));
        let leeway = LEEWAY.as_secs();
        for (issued_at, is_revoked) in [(5, true), (5 + leeway, true), (6 + leeway, false)] {
            let mira = Identity {
                issued_at: Some(issued_at),
                ..person("mira")
            };
            assert_eq!(revoked.has(&mira), is_revoked, "{issued_at}");
        }
    }

    #[test]
    fn what_is_told_of_an_older_revocation_makes_none_smaller() {
        let (revoked, now) = (Revoked::new(), now().unix);
        let at = |at, until| Revocation {
            at,
            ..revocation("mira", until)
        };
        revoked.add(at(50, now + 60));
        revoked.add(at(20, now));
        let mira = Identity {
            issued_at: Some(40),
            ..person("mira")
        };
        assert!(revoked.has(&mira));
        let known = revoked.table().all.values().cloned().collect::<Vec<_>>();
        assert_eq!(known, [at(50, now + 60)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_before_all_is_known_waits_a_moment_and_no_longer() {
        let revoked = std::sync::Arc::new(Revoked::new());
        assert!(!revoked.whole().await);
        let waits = {
            let revoked = std::sync::Arc::clone(&revoked);
            async move { revoked.whole().await }
        };
        let known = async { revoked.is_whole.send_replace(true) };
        assert_eq!(tokio::join!(waits, known), (true, false));
    }
}
