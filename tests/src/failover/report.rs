//! What a failover cost.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use bus::{Audit, Replicated};
use serde::Serialize;
use story::{EventId, LogEntry};
use tokio::time::Instant;

use super::Trial;
use super::load::Played;
use crate::chaos::account::Account;

/// Beyond the failover itself.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub trial: Trial,
    /// From the blow until the replica was master, ms.
    pub failover_ms: u128,
    /// The longest time in which a story took no action, ms.
    pub longest_silence_ms: u128,
    /// The longest time in which a story got no answer, ms.
    pub longest_wait_ms: u128,
    /// Actions that were confirmed.
    pub confirmed: u64,
    /// Of them, those that were said to be on too few replicas.
    pub confirmed_as_short: u64,
    /// Of all, those that are not there: `story/id`.
    pub lost: BTreeSet<String>,
    /// What `storyfleet audit --sent` says is not there.
    pub missing: BTreeSet<String>,
    /// Of the lost, those that were not said to be on too few replicas.
    pub lost_unsaid: u64,
    /// Of the lost, those that were confirmed while the replica had all that the master had.
    pub lost_beyond_lag: u64,
    pub twice: u64,
    pub out_of_order: u64,
    /// Of what is there.
    pub unanswered: u64,
    /// Actions that were answered by a failure.
    pub failed: u64,
    /// Events that nobody was to see.
    pub leaked: u64,
    /// What is wrong, in words.
    #[serde(skip)]
    pub wrong: Vec<String>,
    pub audit: Option<Audit>,
}

impl Report {
    pub(super) fn new(trial: Trial, failover: Duration) -> Self {
        Self {
            trial,
            failover_ms: failover.as_millis(),
            longest_silence_ms: 0,
            longest_wait_ms: 0,
            confirmed: 0,
            confirmed_as_short: 0,
            lost: BTreeSet::new(),
            missing: BTreeSet::new(),
            lost_unsaid: 0,
            lost_beyond_lag: 0,
            twice: 0,
            out_of_order: 0,
            unanswered: 0,
            failed: 0,
            leaked: 0,
            wrong: Vec::new(),
            audit: None,
        }
    }

    /// Counts what was confirmed in a story against its log, and gives what of it is there. The replica was behind
    /// from the one time on, until the other.
    pub(super) fn story(
        &mut self,
        played: &Played,
        log: &[LogEntry],
        (behind, until): (Instant, Instant),
    ) -> Vec<EventId> {
        self.longest_silence_ms = self.longest_silence_ms.max(played.silence.as_millis());
        self.longest_wait_ms = self.longest_wait_ms.max(played.wait.as_millis());
        let there: HashSet<&EventId> = log.iter().map(|entry| &entry.event.id).collect();
        let mut kept = Vec::new();
        for done in &played.done {
            let is_short = matches!(done.replicated, Replicated::Short(_));
            self.confirmed += 1;
            self.confirmed_as_short += u64::from(is_short);
            if there.contains(&done.id) {
                kept.push(done.id.clone());
                continue;
            }
            self.lost.insert(format!("{}/{}", played.id, done.id));
            self.lost_unsaid += u64::from(!is_short);
            self.lost_beyond_lag += u64::from(done.at < behind || done.at > until);
        }
        kept
    }

    pub(super) fn account(&mut self, account: &Account) {
        self.twice += account.twice;
        self.out_of_order += account.out_of_order;
        self.unanswered += account.lost;
        self.failed += account.failed.values().sum::<u64>();
        self.leaked += account.leaked;
        self.wrong.extend_from_slice(account.wrong());
    }

    /// Whether nothing went wrong but what the trial says may be lost, and the audit names that.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let may_lose = self.trial.wait_replicas == 0;
        let lost = if may_lose {
            self.lost_beyond_lag
        } else {
            self.lost_unsaid
        };
        let is_told = self.audit.as_ref().is_some_and(Audit::is_clean) && self.missing == self.lost;
        let wrong = self.twice + self.out_of_order + self.unanswered + self.failed + self.leaked;
        lost + wrong == 0 && self.wrong.is_empty() && is_told
    }

    /// Whether people were kept waiting for the failover, and little more.
    #[must_use]
    pub fn is_soon(&self) -> bool {
        let longest = self.failover_ms + PATIENCE.as_millis();
        self.longest_silence_ms <= longest && self.longest_wait_ms <= longest
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [
            ("failover", format!("{} ms", self.failover_ms)),
            (
                "no action taken",
                format!("{} ms at most", self.longest_silence_ms),
            ),
            ("no answer", format!("{} ms at most", self.longest_wait_ms)),
            ("confirmed", self.confirmed.to_string()),
            ("said short", self.confirmed_as_short.to_string()),
            ("lost", self.lost.len().to_string()),
            ("the audit names", self.missing.len().to_string()),
            ("lost unsaid", self.lost_unsaid.to_string()),
            ("beyond the lag", self.lost_beyond_lag.to_string()),
            ("unanswered", self.unanswered.to_string()),
            ("failed", self.failed.to_string()),
            ("leaked", self.leaked.to_string()),
            ("twice", self.twice.to_string()),
            ("out of order", self.out_of_order.to_string()),
        ] {
            writeln!(f, "{name:<17}{value}")?;
        }
        for lost in &self.lost {
            writeln!(f, "lost {lost}")?;
        }
        for wrong in &self.wrong {
            writeln!(f, "{wrong}")?;
        }
        match &self.audit {
            Some(audit) if !audit.is_clean() => writeln!(f, "the audit: {audit:?}")?,
            _ => {}
        }
        f.write_str(match (self.is_clean(), self.is_soon()) {
            (true, true) => "clean",
            (true, false) => "clean, but people waited for too long",
            (false, _) => "NOT clean",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::{Blow, Topology};

    #[test]
    fn whatever_the_account_calls_wrong_is_not_clean() {
        let with = |account: Account| {
            let trial = Trial {
                topology: Topology::Sentinel,
                blow: Blow::Kill,
                wait_replicas: 1,
            };
            let mut report = Report::new(trial, Duration::ZERO);
            report.audit = Some(Audit::default());
            report.account(&account);
            report.is_clean()
        };
        assert!(with(Account::default()));
        let failed = [("provider".to_owned(), 1)].into();
        for wrong in [
            Account {
                failed,
                ..Account::default()
            },
            Account {
                leaked: 1,
                ..Account::default()
            },
            Account {
                wrong: vec!["a log has no end".to_owned()],
                ..Account::default()
            },
        ] {
            assert!(!with(wrong.clone()), "{wrong:?}");
        }
    }
}
