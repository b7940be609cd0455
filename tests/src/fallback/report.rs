//! What the run of the fallback found.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Plan, Played};
use crate::ordeal::rows;

/// Of a hundred calls, no more requests than these are made.
const MOST: u64 = 110;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub plan: Plan,
    pub answered: u32,
    pub failed: u32,
    /// Requests to the first model, and those that it failed.
    pub first: u64,
    pub faults: u64,
    /// Requests to the other one.
    pub second: u64,
    pub resets: u32,
    pub spliced: u32,
    pub seconds: f64,
    /// From when a line was said to its end, in seconds.
    pub longest: f64,
    pub kept: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(
        plan: Plan,
        played: &[Played],
        took: Duration,
        ([first, second], faults): ([u64; 2], u64),
    ) -> Self {
        let sum = |of: fn(&Played) -> u32| played.iter().map(of).sum();
        let longest = played.iter().map(|one| one.longest).max();
        Self {
            plan,
            answered: sum(|one| one.answered),
            failed: sum(|one| one.failed),
            first,
            faults,
            second,
            resets: sum(|one| one.resets),
            spliced: sum(|one| one.spliced),
            seconds: took.as_secs_f64(),
            longest: longest.unwrap_or_default().as_secs_f64(),
            kept: None,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong().is_empty()
    }

    fn requests(&self) -> u64 {
        self.first + self.second
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let lines = self.plan.lines;
        if self.answered != lines {
            wrong.push(format!("{} of {lines} lines were answered", self.answered));
        }
        if self.spliced > 0 {
            let spliced = self.spliced;
            wrong.push(format!("readers saw {spliced} answers that were not so"));
        }
        if self.requests() * 100 > u64::from(lines) * MOST {
            wrong.push(format!("{} requests for {lines} calls", self.requests()));
        }
        if self.faults == 0 && self.plan.faults > 0 {
            wrong.push("the first model failed nothing".to_owned());
        }
        wrong
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first,
            faults,
            second,
            ..
        } = self;
        let more = self.requests() * 1_000 / u64::from(self.plan.lines.max(1));
        let table = [
            (
                "answered",
                format!("{} of {}", self.answered, self.plan.lines),
            ),
            ("failed", self.failed.to_string()),
            ("first model", format!("{first} requests, {faults} failed")),
            ("other model", format!("{second} requests")),
            (
                "requests",
                format!("{}.{:03} a call", more / 1_000, more % 1_000),
            ),
            (
                "begun anew",
                format!("{} answers that readers saw some of", self.resets),
            ),
            ("spliced", self.spliced.to_string()),
            ("took", format!("{:.1} s", self.seconds)),
            ("longest wait", format!("{:.1} s", self.longest)),
        ];
        let wrong = self.wrong();
        rows(f, &wrong, &table, self.kept.as_deref(), wrong.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let plan = Plan {
            workers: 1,
            stories: 1,
            lines: 100,
            faults: 50,
        };
        let played = [Played {
            answered: 100,
            resets: 3,
            ..Played::default()
        }];
        Report::new(plan, &played, Duration::from_secs(1), ([20, 90], 9))
    }

    #[test]
    fn a_lost_line_a_spliced_text_and_too_many_requests_are_not_clean() {
        assert!(report().is_clean());
        let spoils: [fn(&mut Report); 4] = [
            |report| report.answered = 99,
            |report| report.spliced = 1,
            |report| report.second = 91,
            |report| report.faults = 0,
        ];
        for spoil in spoils {
            let mut report = report();
            spoil(&mut report);
            assert!(!report.is_clean(), "{report}");
        }
    }
}
