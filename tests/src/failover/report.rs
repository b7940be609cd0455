//! What a failover cost.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Audit, DeadLetter, Replicated};
use serde::Serialize;
use story::{Agent, EventId, LogEntry, Payload, StoryId};
use tokio::time::Instant;

use super::Trial;
use super::load::Played;
use crate::chaos::account::Account;
use crate::chaos::journal::Journal;
use crate::ordeal::rows;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub trial: Trial,
    /// From the blow until the replica was master, ms.
    pub failover_ms: u128,
    /// The longest time in which a story took no action, ms.
    pub longest_silence_ms: u128,
    /// The longest time in which a story got no answer of the narrator, or none of its character, ms.
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
    /// Of the lost, those that were confirmed while a replica had all that its master had.
    pub lost_beyond_lag: u64,
    /// Answers in the logs.
    pub narrated: u64,
    /// The same of characters.
    pub spoken: u64,
    /// Of what is there.
    pub account: Account,
    pub journal: Journal,
    /// What is wrong; empty is success.
    pub wrong: Vec<String>,
    /// Where the data and logs of a run with faults are.
    pub kept: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(trial: Trial, failover: Duration) -> Self {
        Self {
            trial,
            failover_ms: failover.as_millis(),
            ..Self::default()
        }
    }

    /// Counts what was confirmed in a story against its log, and gives what of it is there. Its replica was behind from the
    /// one time until the other, if at all.
    pub(super) fn story(
        &mut self,
        played: &Played,
        log: &[LogEntry],
        behind: Option<(Instant, Instant)>,
    ) -> Vec<EventId> {
        self.longest_silence_ms = self.longest_silence_ms.max(played.silence.as_millis());
        self.longest_wait_ms = self.longest_wait_ms.max(played.wait.as_millis());
        let events = || log.iter().map(|entry| &entry.event);
        for event in events() {
            self.narrated += u64::from(matches!(event.payload(), Payload::Narration(_)));
            self.spoken += u64::from(matches!(event.payload(), Payload::Dialogue(_)));
        }
        // What was never let through has an end that names it.
        let there: HashSet<&EventId> = events()
            .flat_map(|event| event.cause.iter().chain([&event.id]))
            .collect();
        let mut kept = Vec::new();
        for done in &played.done {
            let is_short = matches!(done.replicated, Replicated::Short(_) | Replicated::Unknown);
            self.confirmed += 1;
            self.confirmed_as_short += u64::from(is_short);
            if there.contains(&done.id) {
                kept.push(done.id.clone());
                continue;
            }
            self.lost.insert(format!("{}/{}", played.id, done.id));
            self.lost_unsaid += u64::from(!is_short);
            let may_lack = behind.is_some_and(|(from, until)| (from..=until).contains(&done.at));
            self.lost_beyond_lag += u64::from(!may_lack);
        }
        kept
    }

    pub(super) fn account(&mut self, id: &StoryId, mut account: Account) {
        let wrong = account.wrong.drain(..);
        self.wrong.extend(wrong.map(|what| format!("{id}: {what}")));
        self.account.add(account);
    }

    pub(super) fn letters(&mut self, letters: &[DeadLetter]) {
        let what = |letter: &DeadLetter| format!("a dead letter: {letter:?}");
        self.wrong.extend(letters.iter().map(what));
    }

    /// The last look: whether anything was lost but what the trial says may be, the audit names that, and people were kept
    /// waiting for the failover and little more.
    pub(super) fn finish(&mut self, missing: BTreeSet<String>, audit: &Audit) {
        self.missing = missing;
        self.wrong.append(&mut self.journal.wrong);
        let failed: u64 = self.account.failed.values().sum();
        let unsaid = match self.trial.wait_replicas {
            0 => ("were lost beyond the lag", self.lost_beyond_lag),
            _ => ("were lost and said to be on replicas", self.lost_unsaid),
        };
        let blocked = self.account.blocked;
        for (what, times) in [unsaid, ("failed", failed), ("were blocked", blocked)] {
            if times > 0 {
                self.wrong.push(format!("{times} actions {what}"));
            }
        }
        let is_idle = |agent: &Agent| self.turns(*agent) == 0;
        let idle = Agent::ALL.into_iter().filter(is_idle);
        let idle: Vec<_> = idle
            .map(|agent| format!("no turn of the {agent}"))
            .collect();
        self.wrong.extend(idle);
        for (what, one, other) in [
            (
                "is lost, and the audit does not name it",
                &self.lost,
                &self.missing,
            ),
            (
                "is there, and the audit says it is gone",
                &self.missing,
                &self.lost,
            ),
        ] {
            let named = one
                .difference(other)
                .map(|action| format!("{action} {what}"));
            self.wrong.extend(named);
        }
        let ours = (self.account.actions, self.account.answered);
        if !audit.is_clean() || (audit.events, audit.answered) != ours {
            self.wrong
                .push(format!("the audit says {audit:?}, we say {ours:?}"));
        }
        let longest = self.failover_ms + self.trial.patience.as_millis();
        for (what, waited) in [
            ("took no action", self.longest_silence_ms),
            ("got no answer", self.longest_wait_ms),
        ] {
            if waited > longest {
                self.wrong.push(format!(
                    "a story {what} for {waited} ms: more than {longest}"
                ));
            }
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    fn turns(&self, agent: Agent) -> u64 {
        self.journal
            .done
            .get(agent.as_str())
            .copied()
            .unwrap_or_default()
    }

    fn rows(&self) -> [(&'static str, String); 16] {
        let account = &self.account;
        let turns = Agent::ALL.map(|agent| format!("{} of the {agent}", self.turns(agent)));
        let failed: u64 = account.failed.values().sum();
        [
            ("failover", format!("{} ms", self.failover_ms)),
            (
                "no action taken",
                format!("{} ms at most", self.longest_silence_ms),
            ),
            ("no answer", format!("{} ms at most", self.longest_wait_ms)),
            ("turns", turns.join(", ")),
            (
                "answers",
                format!(
                    "{} of the narrator, {} of characters",
                    self.narrated, self.spoken
                ),
            ),
            ("confirmed", self.confirmed.to_string()),
            ("said short", self.confirmed_as_short.to_string()),
            ("lost", self.lost.len().to_string()),
            ("the audit names", self.missing.len().to_string()),
            ("lost unsaid", self.lost_unsaid.to_string()),
            ("beyond the lag", self.lost_beyond_lag.to_string()),
            ("unanswered", account.lost.to_string()),
            ("failed", failed.to_string()),
            ("leaked", account.leaked.to_string()),
            ("twice", account.twice.to_string()),
            ("out of order", account.out_of_order.to_string()),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.as_deref();
        rows(f, &self.wrong, &self.rows(), kept, self.is_clean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::load::Done;

    /// Of a trial that lets people wait for a second, after a failover of one.
    fn report(wait_replicas: u32) -> Report {
        let trial = Trial {
            wait_replicas,
            patience: Duration::from_secs(1),
            ..Trial::default()
        };
        let mut report = Report::new(trial, Duration::from_secs(1));
        report.journal.done = Agent::ALL.map(|agent| (agent.to_string(), 1)).into();
        report
    }

    fn is_clean(mut report: Report, missing: &[&str]) -> bool {
        let missing = missing.iter().map(ToString::to_string).collect();
        report.finish(missing, &Audit::default());
        report.is_clean()
    }

    #[test]
    fn whatever_the_account_calls_wrong_is_not_clean() {
        let with = |account: Account| {
            let mut report = report(1);
            report.account(&"castle".parse().unwrap(), account);
            is_clean(report, &[])
        };
        assert!(with(Account::default()));
        let failed = [("provider".to_owned(), 1)].into();
        for wrong in [
            Account {
                failed,
                ..Account::default()
            },
            Account {
                blocked: 1,
                ..Account::default()
            },
            // The audit knows of no action.
            Account {
                actions: 1,
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

    #[test]
    fn every_agent_has_something_to_do() {
        for agent in Agent::ALL {
            let mut report = report(0);
            report.journal.done.remove(agent.as_str());
            assert!(!is_clean(report, &[]), "{agent}");
        }
    }

    #[test]
    fn only_what_a_replica_may_lack_or_was_said_to_lack_may_be_lost() {
        let lost = |wait_replicas, behind: bool, replicated| {
            let mut report = report(wait_replicas);
            let at = Instant::now();
            let played = Played {
                id: "castle".parse().unwrap(),
                done: vec![Done {
                    id: "a1".parse().unwrap(),
                    at,
                    replicated,
                }],
                silence: Duration::ZERO,
                wait: Duration::ZERO,
            };
            let second = Duration::from_secs(1);
            let behind = behind.then_some((at - second, at + second));
            assert!(report.story(&played, &[], behind).is_empty());
            report
        };
        let (behind, named) = (true, &["castle/a1"]);
        assert!(is_clean(lost(0, behind, Replicated::Unasked), named));
        assert!(!is_clean(lost(0, behind, Replicated::Unasked), &[]));
        assert!(!is_clean(lost(0, !behind, Replicated::Unasked), named));
        assert!(is_clean(lost(1, behind, Replicated::Short(0)), named));
        assert!(!is_clean(lost(1, behind, Replicated::Enough), named));
    }

    #[test]
    fn nobody_may_wait_for_longer_than_the_failover_and_their_patience() {
        for (waited, clean) in [(2_000, true), (2_001, false)] {
            let mut silent = report(0);
            silent.longest_silence_ms = waited;
            let mut unanswered = report(0);
            unanswered.longest_wait_ms = waited;
            for report in [silent, unanswered] {
                assert_eq!(is_clean(report, &[]), clean, "{waited}");
            }
        }
    }
}
