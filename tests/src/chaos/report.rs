//! What a run found, for people and for programs.

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bus::{Audit, DeadLetter, Finding};
use serde::Serialize;
use story::StoryId;

use crate::chaos::account::Account;
use crate::chaos::ear::{Heard, Messages};
use crate::chaos::fleet::Blows;
use crate::chaos::journal::Journal;
use crate::chaos::plan::Plan;
use crate::chaos::reader::Sight;
use crate::ordeal::rows;

/// What an action may fail of here: faults that no retry mends, or that outlast the retries, and deaths in a row.
const FAILURES: [&str; 9] = [
    "blocked", "context", "crash", "deadline", "empty", "provider", "rate", "stall", "ttft",
];
/// Of so many actions one more than one may be told to wait past its deadline. It takes four or five faults in a row, the
/// last of them a 429: so ended 2 of 300,000 calls of a model with the faults of chaos. A run of 2,100 actions makes about
/// 5,000 calls: one is chance, two are not.
const RATED: u64 = 10_000;
/// Of a hundred actions, those that are answered whatever happens, and those that may fail of deaths in a row.
const ANSWERED: u64 = 85;
const CRASHED: u64 = 5;
/// Of a hundred answers that readers had, those that were live text before: a third of them waits for a verdict unseen,
/// and while Redis is away nobody sees anything. Of a hundred drafts, those that may begin anew, as after a death or a
/// fault of the model, and those that their answer may replace, since their reader was away when they began anew.
const DRAFTED: u64 = 30;
const RESET: u64 = 25;
const REPLACED: u64 = 5;

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub shards: u16,
    pub seconds: f64,
    pub blows: Blows,
    pub account: Account,
    pub journal: Journal,
    /// Dead letters of the class `crash`: their workers died of other things, again and again.
    pub crashes: u64,
    pub orphans: u64,
    /// Calls that the model answered with a fault.
    pub model_faults: u64,
    /// Messages on the live channels.
    pub heard: Messages,
    pub readers: Readers,
    /// What is wrong; empty is success.
    pub wrong: Vec<String>,
    /// Where the data and logs of a run with faults are.
    pub kept: Option<PathBuf>,
    dead: u64,
}

/// What readers saw.
#[derive(Debug, Default, Serialize)]
pub struct Readers {
    pub events: u64,
    /// How often one went away and came back with a cursor.
    pub returns: u64,
    /// Answers with a text, and those of them that were there as drafts before.
    pub answers: u64,
    pub drafted: u64,
    /// Drafts in whose place another text was put by their answer.
    pub replaced: u64,
    /// Drafts that began anew.
    pub resets: u64,
}

impl Report {
    pub(super) fn new(plan: &Plan, ran: Duration, blows: Blows) -> Self {
        Self {
            seed: plan.seed,
            shards: plan.shards,
            seconds: ran.as_secs_f64(),
            blows,
            account: Account::default(),
            journal: Journal::default(),
            crashes: 0,
            orphans: 0,
            model_faults: 0,
            heard: Messages::default(),
            readers: Readers::default(),
            wrong: Vec::new(),
            kept: None,
            dead: 0,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    pub(super) fn story(&mut self, id: &StoryId, mut account: Account) {
        let wrong = account.wrong.drain(..);
        self.wrong.extend(wrong.map(|what| format!("{id}: {what}")));
        self.account.add(account);
    }

    pub(super) fn sight(&mut self, mut sight: Sight) {
        self.readers.events += sight.events;
        self.readers.returns += sight.returns;
        self.readers.answers += sight.answers;
        self.readers.drafted += sight.drafted;
        self.readers.replaced += sight.replaced;
        self.readers.resets += sight.resets;
        self.wrong.append(&mut sight.wrong);
    }

    pub(super) fn heard(&mut self, mut heard: Heard) {
        self.heard = heard.messages;
        self.wrong.append(&mut heard.wrong);
    }

    pub(super) fn letters(&mut self, letters: &[DeadLetter]) {
        let crashes = letters.iter().filter(|letter| letter.class == "crash");
        self.crashes += count(crashes.count());
        self.dead += count(letters.len());
    }

    /// The fleet's own account must agree.
    pub(super) fn audited(&mut self, audit: &Audit, findings: &[Finding]) {
        self.orphans = audit.orphans + count(findings.len());
        let found = findings.iter().map(|finding| finding.what.clone());
        self.wrong.extend(found);
        let failed: u64 = self.account.failed.values().sum();
        let ours = (
            self.account.actions,
            self.account.answered,
            self.account.blocked,
            failed,
        );
        let theirs = (audit.events, audit.answered, audit.blocked, audit.failed);
        if !audit.is_clean() || ours != theirs {
            self.wrong
                .push(format!("the audit says {audit:?}, we say {ours:?}"));
        }
        if self.dead != self.account.failures {
            self.wrong.push(format!(
                "{} dead letters, {} failures in the logs",
                self.dead, self.account.failures
            ));
        }
    }

    /// The last look: did the run show what it is for?
    pub(super) fn finish(&mut self) {
        self.wrong.append(&mut self.journal.wrong);
        let blows = self.blows;
        let proofs = [
            ("worker was killed", blows.killed.into()),
            ("worker was asked to end", blows.ended.into()),
            ("worker was frozen", blows.frozen.into()),
            ("worker was far from Redis", blows.delayed.into()),
            ("Redis was restarted", blows.redis_restarts.into()),
            ("Redis was frozen", blows.redis_frozen.into()),
            ("call of the model failed", self.model_faults),
            ("action was blocked", self.account.blocked),
            ("zombie was fenced", self.journal.fenced),
            ("event was taken over", self.journal.reclaimed),
            ("reader came back", self.readers.returns),
            ("live message was heard at the end", self.heard.latest),
            (
                "live message of a story that holds was heard",
                self.heard.held,
            ),
        ];
        let unproven = proofs.iter().filter(|(_, times)| *times == 0);
        let unproven = unproven.map(|(what, _)| format!("no {what}: the run says nothing of it"));
        self.wrong.extend(unproven);
        self.mostly_answered();
        self.live_text();
    }

    /// Readers must have seen the answers grow, and hardly ever anew.
    fn live_text(&mut self) {
        let Readers {
            answers,
            drafted,
            resets,
            replaced,
            ..
        } = self.readers;
        if drafted == 0 || drafted * 100 < answers * DRAFTED {
            let what = format!("{drafted} of {answers} answers were drafts: less than {DRAFTED} %");
            self.wrong.push(what);
        }
        for (what, times, most) in [
            ("began anew", resets, RESET),
            ("were replaced", replaced, REPLACED),
        ] {
            if times * 100 > drafted * most {
                let what = format!("{times} of {drafted} drafts {what}: more than {most} %");
                self.wrong.push(what);
            }
        }
    }

    /// An account adds up even if every action failed: most must not.
    fn mostly_answered(&mut self) {
        let Account {
            actions,
            answered,
            failed,
            ..
        } = &self.account;
        if answered * 100 < actions * ANSWERED {
            let what = format!("{answered} of {actions} actions answered: less than {ANSWERED} %");
            self.wrong.push(what);
        }
        if self.crashes * 100 > actions * CRASHED {
            let what = format!(
                "{} crash letters for {actions} actions: more than {CRASHED} %",
                self.crashes
            );
            self.wrong.push(what);
        }
        let rated = failed.get("rate").copied().unwrap_or_default();
        let most = 1 + actions / RATED;
        if rated > most {
            let what = format!("{rated} of {actions} actions failed of rate: more than {most}");
            self.wrong.push(what);
        }
        let strange = failed
            .iter()
            .filter(|(class, _)| !FAILURES.contains(&class.as_str()));
        let strange = strange.map(|(class, times)| format!("{times} actions failed of {class}"));
        self.wrong.extend(strange);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept.as_deref();
        rows(f, &self.wrong, &self.rows(), kept, self.is_clean())
    }
}

impl Report {
    fn rows(&self) -> [(&'static str, String); 18] {
        let (account, blows, journal) = (&self.account, &self.blows, &self.journal);
        let classes = account.failed.iter();
        let classes: Vec<String> = classes.map(|(class, n)| format!("{class} {n}")).collect();
        let readers = &self.readers;
        [
            ("seed", format!("{}, shards {}", self.seed, self.shards)),
            ("actions", account.actions.to_string()),
            ("answered", account.answered.to_string()),
            ("blocked", account.blocked.to_string()),
            ("failed", classes.join(", ")),
            (
                "workers",
                format!(
                    "killed {}, ended {}, frozen {}, delayed {}",
                    blows.killed, blows.ended, blows.frozen, blows.delayed
                ),
            ),
            (
                "Redis",
                format!(
                    "restarted {}, frozen {}",
                    blows.redis_restarts, blows.redis_frozen
                ),
            ),
            ("model", format!("{} calls failed", self.model_faults)),
            (
                "taken over",
                format!(
                    "{}, leases lost {}, crash letters {}",
                    journal.reclaimed, journal.leases_lost, self.crashes
                ),
            ),
            (
                "FENCED",
                format!("{}, GONE {}", journal.fenced, journal.gone),
            ),
            (
                "readers",
                format!(
                    "{} events, {} returns, {} live messages",
                    readers.events, readers.returns, self.heard.all
                ),
            ),
            (
                "live text",
                format!(
                    "{} drafts of {} answers, {} resets, {} replaced",
                    readers.drafted, readers.answers, readers.resets, readers.replaced
                ),
            ),
            ("lost", account.lost.to_string()),
            ("twice", account.twice.to_string()),
            ("out of order", account.out_of_order.to_string()),
            ("leaked", account.leaked.to_string()),
            ("orphans", self.orphans.to_string()),
            ("seconds", format!("{:.1}", self.seconds)),
        ]
    }
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
