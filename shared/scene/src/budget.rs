//! How much of a story a prompt holds, so that a few long texts cannot fill the model's window for everyone.

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::{Fact, Line};

/// In characters, of which about four make a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args, Serialize, Deserialize)]
// The group's name would be that of the command line's own options.
#[group(skip)]
pub struct Budget {
    /// Most characters of what happened last in a prompt; the newest are kept
    #[arg(long = "history-chars", env = "STORYFLEET_HISTORY_CHARS", value_name = "N", default_value_t = Self::default().history)]
    pub history: usize,
    /// Most characters of lore in a prompt
    #[arg(long = "lore-chars", env = "STORYFLEET_LORE_CHARS", value_name = "N", default_value_t = Self::default().lore)]
    pub lore: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            history: 24_000,
            lore: 12_000,
        }
    }
}

/// The first of `lines`, given newest first; the first one that does not fit is cut to its end, and no
/// further one is made. Whether one was cut.
pub(crate) fn newest(lines: impl Iterator<Item = Line>, budget: usize) -> (Vec<Line>, bool) {
    let mut room = budget;
    let mut kept = Vec::new();
    for mut line in lines {
        let text = line.text.chars().count();
        let all = line.who.chars().count() + text;
        if all > room {
            let fits = room.saturating_sub(all - text);
            if fits > 0 {
                let end: String = line.text.chars().skip(text - fits).collect();
                line.text = format!("…{end}");
                kept.push(line);
            }
            return (kept, fits > 0);
        }
        room -= all;
        kept.push(line);
    }
    (kept, false)
}

/// Those of `facts`, in their order, that fit whole, and the others.
pub(crate) fn fitting(facts: impl Iterator<Item = Fact>, budget: usize) -> (Vec<Fact>, Vec<Fact>) {
    let mut room = budget;
    facts.partition(|fact| {
        let left = room.checked_sub(fact.key.chars().count() + fact.text.chars().count());
        room = left.unwrap_or(room);
        left.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let line = |text: &&str| Line {
            who: "Mira".to_owned(),
            text: (*text).to_owned(),
            seq: None,
        };
        texts.iter().map(line).collect()
    }

    #[test]
    fn a_long_text_leaves_room_for_what_happened_after_it() {
        let told = || lines(&["It rains.", "ééééé end", "I wait"]);
        for (budget, texts) in [
            (100, &["It rains.", "ééééé end", "I wait"][..]),
            (36, &["It rains.", "ééééé end", "I wait"]),
            (23, &["ééééé end", "I wait"]),
            (21, &["…ééé end", "I wait"]),
            (14, &["I wait"]),
            (10, &["I wait"]),
            (7, &["…ait"]),
            (4, &[]),
            (0, &[]),
        ] {
            let (mut kept, cut) = newest(told().into_iter().rev(), budget);
            assert_eq!(cut, texts.first().is_some_and(|text| text.starts_with('…')));
            kept.reverse();
            assert_eq!(kept, lines(texts), "{budget}");
        }
    }

    #[test]
    fn the_command_line_says_how_much() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            budget: Budget,
        }
        let line = ["test", "--history-chars", "5", "--lore-chars=6"];
        let given = <Line as clap::Parser>::try_parse_from(line).unwrap().budget;
        let (history, lore) = (5, 6);
        assert_eq!(given, Budget { history, lore });
    }

    #[test]
    fn lore_that_does_not_fit_is_left_out_whole() {
        let fact = |key: &str, text: &str| Fact {
            key: key.to_owned(),
            text: text.to_owned(),
        };
        let facts = vec![
            fact("a", "dust"),
            fact("b", &"x".repeat(90)),
            fact("c", "rain"),
        ];
        let (fit, left) = fitting(facts.into_iter(), 20);
        let keys = |facts: Vec<Fact>| facts.into_iter().map(|fact| fact.key).collect::<Vec<_>>();
        assert_eq!(
            (keys(fit), keys(left)),
            (vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()])
        );
    }
}
