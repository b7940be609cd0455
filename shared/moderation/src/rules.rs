//! The first tier: words and shapes that are looked for in every text, in microseconds.
//!
//! Violence, fear and wrongdoing belong to fiction and are not looked for. A rule that blocks is narrow: what it finds
//! is never needed in a story. A rule that flags is wide, and leaves the decision to the next tier.

use std::sync::LazyLock;

use regex::Regex;
use story::Decision;

use crate::card::holds_card;
use crate::form::Forms;

/// The most characters of a [`Form`](crate::form::Form) that a rule finds at once: whoever sees a text in parts must look back as far.
pub(crate) const LONGEST: usize = 512;

/// A rule's category, what it decides, and the pattern of what it finds in the forms of a text.
type Row = (&'static str, Decision, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 8] = [
    ("sexual/minors", Decision::Block, r"\b(?:child|kiddie|preteen|underage|loli|shota)\W{0,2}(?:porn|sex|erotica|nudes?)\b|\bcsam\b"),
    ("self-harm/encouragement", Decision::Block, r"\b(?:kill|hang|cut) (?:yourself|urself) (?:now|already|for real|irl|in real life)\b|\bkys\b"),
    ("illicit/weapons", Decision::Block, r"\b(?:how to|instructions (?:for|to)|steps to|recipe for) (?:make|build|making|building|synthesi[sz]e|synthesi[sz]ing)?\W{0,64}(?:a |an )?(?:pipe bomb|nail bomb|nerve agent|sarin|ricin|dirty bomb)\b"),
    ("sexual/minors", Decision::Flag, r"\b(?:child|children|girl|boy|teen|teenager|minor|underage|schoolgirl|schoolboy)s?\b.{0,60}\b(?:naked|nude|undress(?:es|ed)?|aroused|sexual(?:ly)?|seduc(?:e|es|ed))\b"),
    ("self-harm", Decision::Flag, r"\b(?:suicide|suicidal|kill myself|end my life|hurt myself|self harm|kill yourself)\b"),
    ("hate", Decision::Flag, r"\b(?:all|those|every|filthy|dirty) (?:jews|muslims|christians|blacks|whites|gays|immigrants|women|men) (?:must|should|deserve to|have to|are) (?:die|burn|hang|vermin|animals|subhuman)\b"),
    ("illicit", Decision::Flag, r"\b(?:how to|instructions (?:for|to)|recipe for)\b.{0,30}\b(?:bomb|explosives?|meth|methamphetamine|poison gas)\b"),
    ("private-data", Decision::Flag, r"\b(?:social security number|credit card number|home address is|\d{3}-\d{2}-\d{4})\b"),
];

static RULES: LazyLock<Vec<(&'static str, Decision, Regex)>> = LazyLock::new(|| {
    let compiled = ROWS.iter().map(|(category, decision, pattern)| {
        let rule = Regex::new(pattern).unwrap_or_else(|e| unreachable!("a test compiles all: {e}"));
        (*category, *decision, rule)
    });
    compiled.collect()
});

/// What the rules find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub decision: Decision,
    /// Sorted, without repeats; empty when nothing is found.
    pub categories: Vec<String>,
}

/// The gravest decision of all rules that find something in `text`, with their categories.
#[must_use]
pub fn judge(text: &str) -> Finding {
    found(&Forms::of(text))
}

/// What the rules find that begins in the part of the text that is not only there for what stands before it.
pub(crate) fn found(forms: &Forms) -> Finding {
    let found = RULES
        .iter()
        .filter(|(_, _, rule)| {
            let mut forms = forms.each().into_iter();
            forms.any(|form| rule.is_match_at(form.text(), form.start()))
        })
        .map(|(category, decision, _)| (*category, *decision));
    let [plain, _] = forms.each();
    let card = holds_card(plain.text(), plain.start());
    let card = card.then_some(("private-data", Decision::Block));
    let found: Vec<_> = found.chain(card).collect();
    let blocked = found
        .iter()
        .any(|(_, decision)| *decision == Decision::Block);
    let decision = match (found.is_empty(), blocked) {
        (true, _) => Decision::Allow,
        (false, false) => Decision::Flag,
        (false, true) => Decision::Block,
    };
    let mut categories: Vec<String> = found.iter().map(|(name, _)| (*name).to_owned()).collect();
    categories.sort();
    categories.dedup();
    Finding {
        decision,
        categories,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_a_regex_of_bounded_length() {
        for pattern in ROWS.iter().map(|row| row.2).chain([crate::card::SIXTEEN]) {
            assert!(Regex::new(pattern).is_ok(), "{pattern}");
            let parsed = regex_syntax::parse(pattern).unwrap();
            // In bytes, which are never fewer than characters.
            let longest = parsed.properties().maximum_len();
            assert!(
                longest.is_some_and(|n| n <= LONGEST),
                "{longest:?} {pattern}"
            );
        }
    }

    #[test]
    fn nothing_between_words_is_too_long() {
        for gap in ["!", ". ", "½", "\u{1f600}", " \u{200b}"] {
            let text = format!("how to make {} pipe bomb", gap.repeat(1000));
            assert_eq!(judge(&text).decision, Decision::Block, "{gap}");
        }
        let text = format!("underage{}porn", " ".repeat(1000));
        assert_eq!(judge(&text).decision, Decision::Block);
        let text = format!("underage{}porn", ".".repeat(1000));
        assert_eq!(judge(&text).decision, Decision::Allow);
        // Nor what hides a word's first letters, where digits stand for letters.
        let text = format!("{}5hota porn", ".".repeat(1000));
        assert_eq!(judge(&text).decision, Decision::Block);
    }

    #[test]
    fn fiction_is_allowed() {
        for text in [
            "I stab the guard and set the castle on fire.",
            "The witch poisons the king; blood everywhere.",
            "I draw 1234 swords.",
            "",
        ] {
            let finding = judge(text);
            assert_eq!(finding.decision, Decision::Allow, "{text}: {finding:?}");
        }
    }

    #[test]
    fn disguises_do_not_help() {
        for text in [
            "underage porn",
            "UNDERAGE  PORN",
            "und3rag3 p0rn",
            "under\u{200b}age po\u{ad}rn",
            "underage po\u{e0061}rn",
            "undеrage pоrn",
            "ｕｎｄｅｒａｇｅ ｐｏｒｎ",
            "ｕｎｄ３ｒａｇｅ ｐ０ｒｎ",
            "undérage porn",
        ] {
            let finding = judge(text);
            assert_eq!(finding.decision, Decision::Block, "{text}");
            assert_eq!(finding.categories, ["sexual/minors"], "{text}");
        }
    }

    #[test]
    fn what_a_second_look_must_decide_is_flagged() {
        for (text, category) in [
            ("I want to end my life", "self-harm"),
            ("tell me how to cook meth", "illicit"),
            ("my SSN: 078-05-1120", "private-data"),
            (
                "The child runs to her mother, naked fear in her eyes.",
                "sexual/minors",
            ),
        ] {
            let finding = judge(text);
            assert_eq!(
                (finding.decision, finding.categories),
                (Decision::Flag, vec![category.to_owned()]),
                "{text}"
            );
        }
    }

    #[test]
    fn a_card_number_is_blocked() {
        for text in [
            "pay with 4111 1111 1111 1111",
            "４１１１１１１１１１１１１１１１",
        ] {
            let finding = judge(text);
            assert_eq!(finding.decision, Decision::Block, "{text}");
            assert_eq!(finding.categories, ["private-data"], "{text}");
        }
    }
}
