//! Many turns at a glance: what they cost and how long they are, then and now, and which are better.

use serde::Serialize;
use serde_json::{Value, json};

use super::judge::{Better, Judgement, said, share};
use crate::recording::Recording;

/// Sums of turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Side {
    pub(crate) turns: u64,
    pub(crate) failed: u64,
    pub(crate) calls: u64,
    /// Turns that took more than one call: an answer without prose, or one whose JSON could not be read.
    pub(crate) asked_again: u64,
    pub(crate) words: u64,
    pub(crate) tokens_in: u64,
    pub(crate) tokens_out: u64,
}

impl Side {
    pub(crate) fn of(turn: &Recording<'_>) -> Self {
        let calls = u64::try_from(turn.calls.len()).unwrap_or(u64::MAX);
        let spent = turn.effects.iter().flat_map(|effects| &effects.spent);
        // A file may say anything.
        let (tokens_in, tokens_out) = spent.fold((0_u64, 0_u64), |(into, out), call| {
            (
                into.saturating_add(call.tokens_in),
                out.saturating_add(call.tokens_out),
            )
        });
        let words = said(turn).split_whitespace().count();
        Self {
            turns: 1,
            failed: u64::from(turn.failed.is_some()),
            calls,
            asked_again: u64::from(calls > 1),
            words: u64::try_from(words).unwrap_or(u64::MAX),
            tokens_in,
            tokens_out,
        }
    }

    fn add(&mut self, other: &Self) {
        self.turns += other.turns;
        self.failed += other.failed;
        self.calls += other.calls;
        self.asked_again += other.asked_again;
        self.words += other.words;
        self.tokens_in = self.tokens_in.saturating_add(other.tokens_in);
        self.tokens_out = self.tokens_out.saturating_add(other.tokens_out);
    }

    fn mean(&self, sum: u64) -> f64 {
        sum as f64 / self.turns.max(1) as f64
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    recorded: Side,
    replayed: Side,
    wins: u64,
    losses: u64,
    ties: u64,
    /// What the judge could not say.
    unjudged: u64,
}

impl Table {
    pub(crate) fn add(
        &mut self,
        [recorded, replayed]: &[Side; 2],
        judged: Option<&Result<Judgement, String>>,
    ) {
        self.recorded.add(recorded);
        self.replayed.add(replayed);
        match judged {
            None => {}
            Some(Err(_)) => self.unjudged += 1,
            Some(Ok(judgement)) => match judgement.better {
                Better::Recorded => self.losses += 1,
                Better::Replayed => self.wins += 1,
                Better::Neither => self.ties += 1,
            },
        }
    }

    pub(crate) fn json(&self) -> Value {
        let share = share(self.wins, self.wins + self.losses);
        let share = share
            .map(|(share, low, high)| json!({"replayed_better": share, "low": low, "high": high}));
        json!({
            "recorded": self.recorded,
            "replayed": self.replayed,
            "judge": {"replayed": self.wins, "recorded": self.losses, "neither": self.ties, "failed": self.unjudged, "share": share},
        })
    }

    pub(crate) fn text(&self) -> Vec<String> {
        let (was, is) = (&self.recorded, &self.replayed);
        let count =
            |name: &str, of: fn(&Side) -> u64| format!("{name:<28}{:>10}{:>10}", of(was), of(is));
        let mean = |name: &str, of: fn(&Side) -> u64| {
            format!(
                "{name:<28}{:>10.1}{:>10.1}",
                was.mean(of(was)),
                is.mean(of(is))
            )
        };
        let mut lines = vec![
            format!("{:<28}{:>10}{:>10}", "", "recorded", "replayed"),
            count("turns", |side| side.turns),
            count("failed", |side| side.failed),
            count("asked more than once", |side| side.asked_again),
            mean("words a turn", |side| side.words),
            mean("tokens in a turn", |side| side.tokens_in),
            mean("tokens out a turn", |side| side.tokens_out),
        ];
        let judged = self.wins + self.losses;
        if let Some((share, low, high)) = share(self.wins, judged) {
            lines.push(format!(
                "{:<28}{:>10}{:>10}   {} alike; replayed better in {:.0} % (95 %: {:.0} to {:.0})",
                "better, says the judge",
                self.losses,
                self.wins,
                self.ties,
                share * 100.0,
                low * 100.0,
                high * 100.0
            ));
        } else if self.ties > 0 {
            lines.push(format!("{} alike, says the judge", self.ties));
        }
        if self.unjudged > 0 {
            lines.push(format!("the judge failed {} times", self.unjudged));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_means_and_the_doubt_of_the_judge() {
        let side = |words| Side {
            turns: 1,
            calls: 1,
            words,
            tokens_in: 100,
            tokens_out: 50,
            ..Side::default()
        };
        let says = |better| {
            Some(Ok(Judgement {
                better,
                reason: String::new(),
            }))
        };
        let mut table = Table::default();
        for (words, judged) in [
            (10, says(Better::Replayed)),
            (20, says(Better::Recorded)),
            (30, says(Better::Neither)),
            (40, None),
        ] {
            table.add(&[side(10), side(words)], judged.as_ref());
        }
        table.add(&[side(10), side(0)], Some(&Err("stall".to_owned())));
        let text = table.text().join("\n");
        assert!(
            text.contains("words a turn                      10.0      20.0"),
            "{text}"
        );
        assert!(
            text.contains("1 alike; replayed better in 50 % (95 %: 9 to 91)"),
            "{text}"
        );
        assert!(text.ends_with("the judge failed 1 times"), "{text}");
        assert_eq!(table.json()["judge"]["share"]["replayed_better"], 0.5);
    }
}
