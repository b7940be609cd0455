//! The first tier: words and shapes that are looked for in every text, in microseconds.
//!
//! Violence, fear and wrongdoing belong to fiction and are not looked for. A rule that blocks is narrow: what it finds
//! is never needed in a story. A rule that flags is wide, and leaves the decision to the next tier.

use std::sync::LazyLock;

use regex::Regex;
use story::Decision;

use crate::card::holds_card;

/// A rule's category, what it decides, and the pattern of what it finds in a text made [`even`].
type Row = (&'static str, Decision, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 8] = [
    ("sexual/minors", Decision::Block, r"\b(?:child|kiddie|preteen|underage|loli|shota)\W{0,2}(?:porn|sex|erotica|nudes?)\b|\bcsam\b"),
    ("self-harm/encouragement", Decision::Block, r"\b(?:kill|hang|cut) (?:yourself|urself) (?:now|already|for real|irl|in real life)\b|\bkys\b"),
    ("illicit/weapons", Decision::Block, r"\b(?:how to|instructions (?:for|to)|steps to|recipe for) (?:make|build|making|building|synthesi[sz]e|synthesi[sz]ing)?\W*(?:a |an )?(?:pipe bomb|nail bomb|nerve agent|sarin|ricin|dirty bomb)\b"),
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
    let forms = [even(text, false), even(text, true)];
    let found = RULES
        .iter()
        .filter(|(_, _, rule)| forms.iter().any(|form| rule.is_match(form)))
        .map(|(category, decision, _)| (*category, *decision));
    let card = holds_card(&forms[0]).then_some(("private-data", Decision::Block));
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

/// `text` in lower case, without invisible characters and accents of Latin look-alikes, its white space single; with
/// `leet`, digits and signs that stand for letters are those letters.
fn even(text: &str, leet: bool) -> String {
    let seen = text
        .chars()
        .filter(|c| !dropped(*c))
        .flat_map(char::to_lowercase);
    let mut even = String::with_capacity(text.len());
    for c in seen {
        let c = look(c);
        let c = if leet { letter(c) } else { c };
        if !c.is_whitespace() {
            even.push(c);
        } else if !even.ends_with(' ') {
            even.push(' ');
        }
    }
    even
}

/// What cannot be seen, and marks that only change how the letter before them looks.
fn dropped(c: char) -> bool {
    story::unseen(c) || matches!(c, '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}')
}

fn letter(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// The Latin letter that a Cyrillic, Greek or accented one looks like, and what a full-width one is.
fn look(c: char) -> char {
    match c {
        'а' | 'α' | 'á' | 'à' | 'ä' | 'â' => 'a',
        'е' | 'ε' | 'é' | 'è' | 'ë' | 'ê' => 'e',
        'і' | 'ι' | 'í' | 'ì' | 'ï' | 'î' => 'i',
        'о' | 'ο' | 'ó' | 'ò' | 'ö' | 'ô' => 'o',
        'ѕ' => 's',
        'с' => 'c',
        'р' => 'p',
        'у' => 'y',
        'х' => 'x',
        'к' => 'k',
        // All of ASCII has a full-width form.
        '！'..='～' => {
            char::from_u32(u32::from(c) - u32::from('！') + u32::from('!')).unwrap_or(c)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_a_regex() {
        for (_, _, pattern) in ROWS {
            assert!(Regex::new(pattern).is_ok(), "{pattern}");
        }
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
