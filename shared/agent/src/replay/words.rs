//! Two texts beside each other: the lines that differ, and the words in them.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};
use tokio::time::Instant;

/// How long a text's changes are looked for.
const LONGEST: Duration = Duration::from_secs(1);
/// Most lines of a text that are shown.
const MOST: usize = 200;

/// The lines that are not the same, with the words that changed marked.
pub(crate) fn changes(before: &str, after: &str) -> Vec<String> {
    // What many lines have in common is looked for no longer: then more of them show as changed.
    let until = Instant::now().into_std() + LONGEST;
    let mut diff = TextDiff::configure();
    let diff = diff.deadline(until).diff_lines(before, after);
    let changes = diff
        .ops()
        .iter()
        .flat_map(|op| diff.iter_inline_changes_deadline(op, Some(until)));
    let changes = changes.filter(|change| change.tag() != ChangeTag::Equal);
    let mut lines: Vec<String> = changes
        .take(MOST + 1)
        .map(|change| {
            let (sign, open, close) = match change.tag() {
                ChangeTag::Delete => ('-', "[-", "-]"),
                _ => ('+', "{+", "+}"),
            };
            let words = change.iter_strings_lossy().map(|(marked, text)| {
                let text = plain(text.trim_end_matches('\n'));
                if marked {
                    format!("{open}{text}{close}")
                } else {
                    text
                }
            });
            format!("    {sign} {}", words.collect::<String>())
        })
        .collect();
    if lines.len() > MOST {
        lines[MOST] = "    … more lines differ: --diff json and --out have them".to_owned();
    }
    lines
}

/// Text of people and models, without what a terminal would act on.
pub(crate) fn plain(text: &str) -> String {
    text.replace(story::steers, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_marked_in_its_line() {
        let before = "You are the narrator.\nDust falls on \u{1b}[31m us.\nThe end.";
        let after = "You are the teller.\nDust falls on \u{1b}[31m us.\nThe end.";
        let expected = [
            "    - You are the [-narrator-].",
            "    + You are the {+teller+}.",
        ];
        assert_eq!(changes(before, after), expected);
        assert!(changes("a\u{1b}[31mb", "c")[0].contains('\u{fffd}'));
    }

    #[test]
    fn of_many_changed_lines_the_first_are_shown() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(changes("", &lines(MOST)).len(), MOST);
        let more = changes("", &lines(MOST + 1));
        assert_eq!(more.len(), MOST + 1);
        assert!(more[MOST].contains("more lines differ"));
    }
}
