//! The first tier: words and shapes that are looked for in every text, in microseconds.
//!
//! Violence, fear and wrongdoing belong to fiction and are not looked for. A rule that blocks is narrow: what it finds
//! is never needed in a story. A rule that flags is wide, and leaves the decision to the next tier.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use story::{ContentPolicy, Decision, Rating};

use crate::card::holds_card;
use crate::form::{Form, Forms, READINGS};
use crate::letter::seen_through;
use crate::phrases::{Allowed, Blocked, first};

/// The most characters of a [`Form`](crate::form::Form) that a rule finds at once: whoever sees a text in parts must look back as far.
pub(crate) const LONGEST: usize = 512;

/// A rule's category, what it decides, in stories for whom, and the pattern of what it finds in the forms of a text.
type Row = (&'static str, Decision, For, &'static str);

/// The stories that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    /// Those of this rating, and of lower ones.
    UpTo(Rating),
}

use For::{All, UpTo};

#[rustfmt::skip]
const ROWS: [Row; 13] = [
    ("sexual/minors", Decision::Block, All, r"\b(?:child|kiddie|preteen|underage|loli|shota)\W{0,2}(?:porn|sex|erotica|nudes?)\b|\bcsam\b"),
    ("self-harm/encouragement", Decision::Block, All, r"\b(?:kill|hang|cut) (?:yourself|urself) (?:now|already|for real|irl|in real life)\b|\bkys\b"),
    ("illicit/weapons", Decision::Block, All, r"\b(?:how to|instructions (?:for|to)|steps to|recipe for) (?:make|build|making|building|synthesi[sz]e|synthesi[sz]ing)?\W{0,64}(?:a |an )?(?:pipe bomb|nail bomb|nerve agent|sarin|ricin|dirty bomb)\b"),
    ("sexual/minors", Decision::Flag, All, r"\b(?:child|children|girl|boy|teen|teenager|minor|underage|schoolgirl|schoolboy)s?\b.{0,60}\b(?:naked|nude|undress(?:es|ed)?|aroused|sexual(?:ly)?|seduc(?:e|es|ed))\b"),
    ("self-harm", Decision::Flag, All, r"\b(?:suicide|suicidal|kill myself|end my life|hurt myself|self harm|kill yourself)\b"),
    ("hate", Decision::Flag, All, r"\b(?:all|those|every|filthy|dirty) (?:jews|muslims|christians|blacks|whites|gays|immigrants|women|men) (?:must|should|deserve to|have to|are) (?:die|burn|hang|vermin|animals|subhuman)\b"),
    ("illicit", Decision::Flag, All, r"\b(?:how to|instructions (?:for|to)|recipe for)\b.{0,30}\b(?:bomb|explosives?|meth|methamphetamine|poison gas)\b"),
    ("private-data", Decision::Flag, All, r"\b(?:social security number|credit card number|home address is|\d{3}-\d{2}-\d{4})\b"),
    ("sexual", Decision::Block, UpTo(Rating::Teen), r"\b(?:orgasm(?:s|ed|ing)?|masturbat(?:e|es|ed|ing|ion)|blow ?jobs?|hand ?jobs?|cum ?shots?|porn(?:o|ography|ographic)?|clitoris|dildos?)\b"),
    ("sexual", Decision::Flag, UpTo(Rating::General), r"\b(?:naked|nude|nudity|aroused|arousal|erection|nipples?|genitals?|penis|vagina|sex|sexy|sexual(?:ly)?|seduc(?:e|es|ed|tive)|lingerie|prostitutes?|whores?)\b"),
    ("violence/graphic", Decision::Flag, UpTo(Rating::General), r"\b(?:gore|gory|entrails|intestines|disembowel(?:s|led|ed|ling|ing)?|decapitat(?:e|es|ed|ing|ion)|behead(?:s|ed|ing)?|dismember(?:s|ed|ing)?|mutilat(?:e|es|ed|ing|ion)|tortur(?:e|es|ed|ing)|severed (?:head|hand|arm|leg|limb)s?|blood (?:sprays|sprayed|spurts|spurted|gushes|gushed))\b"),
    ("profanity", Decision::Block, UpTo(Rating::General), r"\b(?:mother)?fuck(?:s|ed|er|ers|ing)?\b|\bcunts?\b"),
    ("profanity", Decision::Flag, UpTo(Rating::General), r"\b(?:bull)?shit(?:s|ty)?\b|\b(?:bitch(?:es)?|bastards?|ass ?holes?|dick ?heads?|goddamn|piss(?:ed)? off|slut(?:s|ty)?)\b"),
];

/// A rule, and what it finds.
struct Rule {
    category: &'static str,
    decision: Decision,
    of: For,
    pattern: Regex,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let compiled = ROWS.iter().map(|(category, decision, of, pattern)| Rule {
        category,
        decision: *decision,
        of: *of,
        pattern: Regex::new(&seen_through(pattern))
            .unwrap_or_else(|e| unreachable!("a test compiles all: {e}")),
    });
    compiled.collect()
});

/// What the texts of a story are judged by: what holds for all, and what its owner wants.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rating: Rating,
    blocked: Option<Blocked>,
    allowed: Option<Allowed>,
}

/// What the rules find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub decision: Decision,
    /// Sorted, without repeats; empty when nothing is found.
    pub categories: Vec<String>,
}

impl Rules {
    #[must_use]
    pub fn of(content: &ContentPolicy) -> Self {
        Self {
            rating: content.rating,
            blocked: Blocked::new(&content.blocked),
            allowed: Allowed::new(&content.allowed),
        }
    }

    /// The gravest decision of all rules that find something in `text`, with their categories.
    #[must_use]
    pub fn judge(&self, text: &str) -> Finding {
        self.found(&Forms::of(text))
    }

    pub(crate) fn allows_phrases(&self) -> bool {
        self.allowed.is_some()
    }

    /// What the rules find that begins in the part of the text that is not only there for what stands before it.
    pub(crate) fn found(&self, forms: &Forms) -> Finding {
        let allowed = self.allowed.as_ref();
        let places = |allowed: &Allowed, form: &Form| match form.is_searched() {
            true => allowed.places(form),
            false => Vec::new(),
        };
        let allowed = allowed.map(|allowed| forms.each().map(|form| places(allowed, form)));
        let rules = RULES.iter().filter(|rule| rule.is_for(self.rating));
        let found = rules.filter(|rule| match &allowed {
            Some(allowed) if rule.can_be_allowed() => rule.finds_beside(forms, allowed),
            _ => rule.finds(forms),
        });
        let found = found.map(|rule| (rule.category, rule.decision));
        let [plain, ..] = forms.each();
        let card = holds_card(plain.text(), plain.start());
        let card = card.then_some(("private-data", Decision::Block));
        let listed = self.blocked.as_ref().filter(|blocked| blocked.finds(forms));
        let listed = listed.map(|_| ("blocked-words", Decision::Block));
        Finding::new(&found.chain(card).chain(listed).collect::<Vec<_>>())
    }
}

impl Rule {
    fn is_for(&self, rating: Rating) -> bool {
        match self.of {
            All => true,
            UpTo(most) => rating <= most,
        }
    }

    /// What is blocked in all stories is not for the owner of one to allow.
    fn can_be_allowed(&self) -> bool {
        self.decision == Decision::Flag || self.of != All
    }

    fn finds(&self, forms: &Forms) -> bool {
        let mut forms = forms.searched();
        forms.any(|form| self.pattern.is_match_at(form.text(), form.start()))
    }

    /// Whether it finds more than what is whole within something that is allowed: a word that is allowed by itself allows
    /// nothing that is made of it and others.
    fn finds_beside(&self, forms: &Forms, allowed: &[Vec<Range<usize>>; READINGS]) -> bool {
        let forms = forms.each().into_iter().zip(allowed);
        let mut searched = forms.filter(|(form, _)| form.is_searched());
        searched.any(|(form, allowed)| {
            let mut from = form.start();
            let found = std::iter::from_fn(|| {
                let found = self.pattern.find_at(form.text(), from)?;
                from = found.start() + first(found.as_str());
                Some(found.range())
            });
            !all_within(found, allowed.iter())
        })
    }
}

/// Whether each of `found` is whole within one of `places`. Both come in the order in which they begin, so that a place is
/// looked at once, and not for each finding: a text may be full of both.
fn all_within<'a>(
    mut found: impl Iterator<Item = Range<usize>>,
    places: impl Iterator<Item = &'a Range<usize>>,
) -> bool {
    let mut places = places.peekable();
    // How far those reach that begin no later.
    let mut reach = 0;
    found.all(|found| {
        while let Some(place) = places.next_if(|place| place.start <= found.start) {
            reach = reach.max(place.end);
        }
        found.end <= reach
    })
}

impl Finding {
    fn new(found: &[(&str, Decision)]) -> Self {
        let blocked = found
            .iter()
            .any(|(_, decision)| *decision == Decision::Block);
        let decision = match (found.is_empty(), blocked) {
            (true, _) => Decision::Allow,
            (false, false) => Decision::Flag,
            (false, true) => Decision::Block,
        };
        let mut categories: Vec<String> =
            found.iter().map(|(name, _)| (*name).to_owned()).collect();
        categories.sort();
        categories.dedup();
        Self {
            decision,
            categories,
        }
    }
}

#[cfg(test)]
mod tests;
