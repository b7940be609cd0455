//! What a deploy under load cost, for people and for programs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Audit, DeadLetter, Finding};
use jiff::Timestamp;
use serde::Serialize;
use story::{LogEntry, StoryId};

use crate::chaos::account::Account;
use crate::chaos::journal::Journal;
use crate::cuts::screen::{Screen, Tally};
use crate::fleet::Replaced;
use crate::ordeal::rows;
use crate::rolling::waits::Wait;
use crate::rolling::{Deploy, Step, Way};

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub steps: Vec<Step>,
    pub seconds: f64,
    pub replaced: Replaced,
    pub account: Account,
    pub journal: Journal,
    /// Events that the model was asked about more than once, though workers only drained.
    pub paid_twice: u64,
    /// The same since workers were hurried: the calls that they broke off.
    pub handed_on_calls: u64,
    /// Of all answers, while workers only drained.
    pub drained: Waits,
    /// The same from then on.
    pub hurried: Waits,
    pub readers: Readers,
    pub dead: u64,
    /// What is wrong; empty is success.
    pub wrong: Vec<String>,
    /// Where the data and logs of a run with faults are.
    pub kept: Option<PathBuf>,
    #[serde(skip)]
    pub(super) wait: Duration,
    pub(super) hurried_from: Option<Timestamp>,
}

/// From when events could be taken until a worker took them, in ms.
#[derive(Debug, Default, Serialize)]
pub struct Waits {
    pub answers: usize,
    pub median: u128,
    pub p99: u128,
    pub longest: u128,
    /// The mean call.
    pub call: u128,
    #[serde(skip)]
    all: Vec<Wait>,
}

#[derive(Debug, Default, Serialize)]
pub struct Readers {
    /// Those whose text is the log's, to the character.
    pub equal: u64,
    /// How often one came with the cursor of the other build's node.
    pub returns: u64,
    pub seen: Tally,
}

impl Report {
    pub(super) fn new(deploy: &Deploy) -> Self {
        Self {
            seed: deploy.seed,
            wait: deploy.wait,
            steps: Vec::new(),
            seconds: 0.0,
            replaced: Replaced::default(),
            account: Account::default(),
            journal: Journal::default(),
            paid_twice: 0,
            handed_on_calls: 0,
            drained: Waits::default(),
            hurried: Waits::default(),
            readers: Readers::default(),
            dead: 0,
            wrong: Vec::new(),
            kept: None,
            hurried_from: None,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// An event that a hurried worker gave back may wait as long as the call that was broken off, and no longer than its
    /// own call takes.
    pub(super) fn story(&mut self, id: &StoryId, mut account: Account, waits: Vec<Wait>) {
        let wrong = account.wrong.drain(..);
        self.wrong.extend(wrong.map(|what| format!("{id}: {what}")));
        self.account.add(account);
        for wait in waits {
            let is_hurried = self.hurried_from.is_some_and(|from| wait.taken >= from);
            let (waits, most) = if is_hurried {
                (&mut self.hurried, wait.call + self.wait)
            } else {
                (&mut self.drained, self.wait)
            };
            if wait.wait > most {
                self.wrong
                    .push(format!("{id}: {wait:?} is longer than {most:?}"));
            }
            waits.all.push(wait);
        }
    }

    pub(super) fn sight(
        &mut self,
        story: &StoryId,
        screen: &Screen,
        returns: u64,
        log: &[LogEntry],
    ) {
        let wrong = screen.wrong.iter().cloned().chain(screen.difference(log));
        let before = self.wrong.len();
        self.wrong
            .extend(wrong.map(|what| format!("a reader of {story}: {what}")));
        self.readers.equal += u64::from(self.wrong.len() == before);
        self.readers.returns += returns;
        self.readers.seen.add(&screen.tally);
    }

    pub(super) fn letters(&mut self, letters: &[DeadLetter]) {
        let what = |letter: &DeadLetter| format!("a dead letter: {letter:?}");
        self.wrong.extend(letters.iter().map(what));
        self.dead += u64::try_from(letters.len()).unwrap_or(u64::MAX);
    }

    /// The fleet's own account must agree.
    pub(super) fn audited(&mut self, audit: &Audit, findings: &[Finding]) {
        self.wrong
            .extend(findings.iter().map(|finding| finding.what.clone()));
        let ours = (self.account.actions, self.account.answered);
        if !audit.is_clean() || (audit.events, audit.answered) != ours {
            self.wrong
                .push(format!("the audit says {audit:?}, we say {ours:?}"));
        }
    }

    /// The last look: was anything charged, and did the run show what it is for?
    pub(super) fn finish(&mut self) {
        self.wrong.append(&mut self.journal.wrong);
        self.drained.sum_up();
        self.hurried.sum_up();
        let (account, journal) = (&self.account, &self.journal);
        let hurried = self.steps.iter().any(|step| step.way == Way::Hurried);
        let failed: u64 = account.failed.values().sum();
        for (what, times) in [
            ("actions failed", failed),
            ("actions were blocked", account.blocked),
            ("deliveries were charged", journal.charged),
            ("leases were lost", journal.leases_lost),
            ("commits were fenced", journal.fenced),
            (
                "events were paid twice while workers drained",
                self.paid_twice,
            ),
            (
                "events were paid twice that were not handed on",
                self.handed_on_calls.saturating_sub(journal.reclaimed),
            ),
            (
                "events were handed on by workers that drained",
                if hurried { 0 } else { journal.reclaimed },
            ),
        ] {
            if times > 0 {
                self.wrong.push(format!("{times} {what}"));
            }
        }
        let seen = &self.readers.seen;
        for (what, times) in [
            ("worker drained", u64::from(self.replaced.drained)),
            ("answer", account.answered),
            ("reader went to the other build", self.readers.returns),
            ("draft was read", seen.drafted),
            (
                "event was handed on",
                if hurried { journal.reclaimed } else { 1 },
            ),
        ] {
            if times == 0 {
                self.wrong
                    .push(format!("no {what}: the run says nothing of it"));
            }
        }
    }
}

impl Waits {
    fn sum_up(&mut self) {
        let mut waits: Vec<u128> = self.all.iter().map(|it| it.wait.as_millis()).collect();
        waits.sort_unstable();
        let Some(last) = waits.len().checked_sub(1) else {
            return;
        };
        self.answers = waits.len();
        self.median = waits[last / 2];
        self.p99 = waits[last * 99 / 100];
        self.longest = waits[last];
        let calls: Duration = self.all.iter().map(|it| it.call).sum();
        self.call = calls.as_millis() / self.answers as u128;
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answers waited {} ms (median), {} (p99), {} (longest); a call took {}",
            self.answers, self.median, self.p99, self.longest, self.call
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.as_deref();
        rows(f, &self.wrong, &self.rows(), kept, self.is_clean())
    }
}

impl Report {
    fn rows(&self) -> [(&'static str, String); 13] {
        let (account, journal, readers) = (&self.account, &self.journal, &self.readers);
        let Replaced {
            drained,
            slowest_drain_s,
            hurried,
        } = &self.replaced;
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        [
            ("seed", self.seed.to_string()),
            ("deploys", steps.join("; ")),
            (
                "workers",
                format!(
                    "{drained} drained, the slowest in {slowest_drain_s:.1} s; {hurried} hurried"
                ),
            ),
            (
                "actions",
                format!("{}, answered {}", account.actions, account.answered),
            ),
            ("drained", self.drained.to_string()),
            ("hurried", self.hurried.to_string()),
            (
                "handed on",
                format!(
                    "{} events, attempts charged: {}",
                    journal.reclaimed, journal.charged
                ),
            ),
            (
                "paid twice",
                format!(
                    "{} while workers drained, {} handed on",
                    self.paid_twice, self.handed_on_calls
                ),
            ),
            (
                "readers",
                format!(
                    "{} equal to the log, {} returns to the other build, {} events, {} drafts of {} answers",
                    readers.equal,
                    readers.returns,
                    readers.seen.events,
                    readers.seen.drafted,
                    readers.seen.responses
                ),
            ),
            ("lost", account.lost.to_string()),
            ("twice", account.twice.to_string()),
            ("out of order", account.out_of_order.to_string()),
            ("seconds", format!("{:.1}", self.seconds)),
        ]
    }
}
