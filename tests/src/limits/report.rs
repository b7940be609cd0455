//! What the run of the limits found.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::{Plan, Played};
use crate::ordeal::rows;

/// No story may wait for longer than so many times the mean.
const FAIR: f64 = 2.0;

/// So much of what may be used is used at least.
const USED: f64 = 0.5;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub plan: Plan,
    pub answered: u32,
    pub failed: u32,
    /// Requests that the model refused since they were beyond what it grants.
    pub refused: u64,
    /// That the provider counted.
    pub tokens: u64,
    pub seconds: f64,
    /// Of what may be used in that time, and of what the bucket has at first, how much was.
    pub used: f64,
    /// Of all lines, in seconds.
    pub mean_wait: f64,
    /// Of the story that waited most, for each of its lines, against the mean.
    pub worst_story: f64,
    pub kept: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(plan: Plan, played: &[Played], took: Duration, refused: u64) -> Self {
        let mean = |waits: &mut dyn Iterator<Item = &Duration>| {
            let (mut sum, mut count) = (0.0, 0.0);
            for wait in waits {
                sum += wait.as_secs_f64();
                count += 1.0;
            }
            if count > 0.0 { sum / count } else { 0.0 }
        };
        let mean_wait = mean(&mut played.iter().flat_map(|one| &one.waits));
        let of_each = played.iter().map(|one| mean(&mut one.waits.iter()));
        let tokens: u64 = played.iter().map(|one| one.tokens).sum();
        // A sixth at once, five more in a minute.
        let sixths = 1.0 + 5.0 * took.as_secs_f64() / 60.0;
        let usable = f64::from(plan.tokens_per_minute) / 6.0 * sixths;
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let used = tokens as f64 / usable;
        Self {
            plan,
            answered: played.iter().map(|one| one.answered).sum(),
            failed: played.iter().map(|one| one.failed).sum(),
            refused,
            tokens,
            seconds: took.as_secs_f64(),
            used,
            mean_wait,
            worst_story: of_each.fold(0.0, f64::max) / mean_wait,
            kept: None,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong().is_empty()
    }

    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.refused > 0 {
            wrong.push(format!("the model refused {} requests", self.refused));
        }
        if self.answered != self.plan.lines {
            wrong.push(format!(
                "{} of {} lines were answered",
                self.answered, self.plan.lines
            ));
        }
        if self.used < USED {
            wrong.push(format!(
                "{:.0} % of what may be used was used",
                self.used * 100.0
            ));
        }
        // No number where nothing was said.
        if self.worst_story.is_nan() || self.worst_story > FAIR {
            wrong.push(format!(
                "a story waited for {:.2} times the mean",
                self.worst_story
            ));
        }
        wrong
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = [
            (
                "answered",
                format!("{} of {}", self.answered, self.plan.lines),
            ),
            ("failed", self.failed.to_string()),
            ("refused (429)", self.refused.to_string()),
            ("took", format!("{:.1} s", self.seconds)),
            (
                "tokens",
                format!(
                    "{} ({:.0} % of what may be used)",
                    self.tokens,
                    self.used * 100.0
                ),
            ),
            ("mean wait", format!("{:.1} s", self.mean_wait)),
            (
                "worst story",
                format!("{:.2} of the mean", self.worst_story),
            ),
        ];
        rows(
            f,
            &self.wrong(),
            &table,
            self.kept.as_deref(),
            self.is_clean(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(waits: [u64; 2], refused: u64) -> Report {
        let plan = Plan {
            workers: 1,
            stories: 2,
            lines: 2,
            tokens_per_minute: 6_000,
        };
        let played = waits.map(|wait| Played {
            answered: 1,
            failed: 0,
            tokens: 800,
            waits: vec![Duration::from_secs(wait)],
        });
        Report::new(plan, &played, Duration::from_secs(10), refused)
    }

    #[test]
    fn a_refusal_an_unfair_wait_and_a_line_without_answer_are_not_clean() {
        assert!(report([1, 2], 0).is_clean());
        assert!(!report([1, 2], 1).is_clean());
        let mut unfair = report([1, 2], 0);
        unfair.worst_story = 2.01;
        assert!(!unfair.is_clean());
        let mut unanswered = report([1, 2], 0);
        unanswered.answered = 1;
        assert!(!unanswered.is_clean());
        let mut idle = report([1, 2], 0);
        idle.used = 0.49;
        assert!(!idle.is_clean());
    }

    #[test]
    fn what_may_be_used_is_a_sixth_at_once_and_the_rest_in_a_minute() {
        // 1,600 of 1,000 and 10 s of 5,000 a minute.
        assert!((report([1, 2], 0).used - 1_600.0 / (1_000.0 + 5_000.0 / 6.0)).abs() < 1e-9);
    }

    #[test]
    fn the_story_that_waited_most_is_held_against_the_mean() {
        assert!((report([1, 3], 0).worst_story - 1.5).abs() < 1e-9);
    }
}
