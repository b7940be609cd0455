//! A text as the rules see it: what disguises words is undone. Taken piece by piece, so that what went before need not be
//! read again; the form of a text's beginning is the beginning of its form.

use regex_syntax::is_word_character;

use crate::letter::{EITHER, ends_word, is_looked_past, letters, of_sign};
use crate::rules::LONGEST;

/// The most characters beside each other of which none is a word's. More of them change no rule's mind, and would let a text
/// outgrow what anybody looks back.
const WIDEST: usize = 64;

/// The most characters of a form that are kept of what went before: more than a phrase of a story's lists can have in one.
pub(crate) const BEFORE: usize = 384;

/// What stands between letters where a word ends that nothing else tells from what follows: in Japanese nothing stands beside
/// a name. The regex engine knows the border of words of any letters, not that of Latin ones. No text has it in its form.
const BORDER: char = '\u{200b}';

/// How many forms a text has.
pub(crate) const READINGS: usize = 4;

/// The forms of one text, one for each reading.
#[derive(Debug, Clone)]
pub(crate) struct Forms([Form; READINGS]);

#[derive(Debug, Clone)]
pub(crate) struct Form {
    reading: Reading,
    text: String,
    /// What is before it is only there to tell what word or phrase is around what follows.
    start: usize,
    /// How many at the end are no word's.
    wide: usize,
    /// Whether anything was read otherwise than in the forms before it.
    differs: bool,
}

/// What stands for letters. Signs do not where they only call out, so that digits alone are a reading too. In the last one thin
/// spaces stand for nothing, since they may split a word, and signs that show a letter for none: a flag may be beside a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Written,
    Digits,
    Signs,
    Joined,
}

impl Forms {
    pub(crate) fn new() -> Self {
        use Reading::{Digits, Joined, Signs, Written};
        Self([Written, Digits, Signs, Joined].map(Form::new))
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut forms = Self::new();
        forms.push(text);
        forms
    }

    /// Those of a phrase of a list, where a capital is only the small letter's.
    pub(crate) fn of_phrase(phrase: &str) -> Self {
        Self::of(&phrase.to_lowercase())
    }

    pub(crate) fn each(&self) -> [&Form; READINGS] {
        self.0.each_ref()
    }

    pub(crate) fn searched(&self) -> impl Iterator<Item = &Form> {
        self.0.iter().filter(|form| form.is_searched())
    }

    pub(crate) fn push(&mut self, piece: &str) {
        for c in piece.chars().flat_map(letters) {
            for form in &mut self.0 {
                form.push(c);
            }
        }
    }

    /// Forgets what no rule can find together with what is still to come.
    pub(crate) fn forget(&mut self) {
        self.0.iter_mut().for_each(Form::forget);
    }
}

impl Form {
    fn new(reading: Reading) -> Self {
        Self {
            reading,
            text: String::new(),
            start: 0,
            wide: 0,
            differs: false,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    /// Whether anything may be found in it that is not found in those before it: in many texts is no digit, and in nearly all
    /// no thin space.
    pub(crate) fn is_searched(&self) -> bool {
        self.reading == Reading::Written || self.differs
    }

    fn push(&mut self, c: char) {
        let read = self.reading.letter(c);
        self.differs |= match self.reading {
            Reading::Joined => read != Reading::Digits.letter(c),
            _ => read != Some(c),
        };
        let last = self.text.chars().next_back();
        let Some(c) = read.filter(|c| !is_looked_past(*c, last)) else {
            return;
        };
        // One that joins words would hide where each begins.
        let c = if c.is_whitespace() || c == '_' {
            ' '
        } else {
            c
        };
        if c == ' ' && self.text.ends_with(' ') {
            return;
        }
        self.wide = match is_word_character(c) {
            true => 0,
            false => self.wide + 1,
        };
        if self.wide <= WIDEST {
            if last.is_some_and(|last| ends_word(last, c)) {
                self.text.push(BORDER);
            }
            self.text.push(c);
        }
    }

    fn forget(&mut self) {
        let mut ends = self.text.char_indices().rev().map(|(at, _)| at);
        let Some(start) = ends.nth(LONGEST - 1) else {
            return;
        };
        let before = ends.nth(BEFORE - 1).unwrap_or(0);
        self.text.drain(..before);
        self.start = start - before;
    }
}

impl Reading {
    fn letter(self, c: char) -> Option<char> {
        Some(match (self, c) {
            (Self::Written, c) => c,
            (Self::Joined, '\u{2006}' | '\u{2008}'..='\u{200a}' | '\u{202f}' | '\u{205f}') => {
                return None;
            }
            (_, '0') => 'o',
            (_, '1') | (Self::Signs, '!' | '|' | '¡' | 'ǀ' | '∣' | '│') => EITHER,
            (_, '3') => 'e',
            (_, '4') | (Self::Signs, '@') => 'a',
            (_, '5') | (Self::Signs, '$') => 's',
            (_, '7') => 't',
            (Self::Joined, c) => c,
            (_, c) => of_sign(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(forms: &Forms) -> [&str; READINGS] {
        forms.each().map(Form::text)
    }

    #[test]
    fn what_disguises_words_is_undone() {
        for (text, forms) in [
            ("A\u{200b} \n\t b\u{301}", ["a b", "a b", "a b", "a b"]),
            ("р0RN！", ["p0rn!", "porn!", "pornI", "porn!"]),
            ("k1l| m3!", ["k1l| m3!", "kIl| me!", "kIlI meI", "kIl| me!"]),
            ("kıll_**me**", ["kill me"; 4]),
            ("don’t—“Çü…", ["don't-\"cu."; 4]),
            ("po\u{20dd}rn", ["porn"; 4]),
            ("𝐝𝔯ⓐ🄶ᴏɴ ԁrаgоn 🄳🅁ɡ", ["dragon dragon drg"; 4]),
            ("⒟🇷🄐!", ["⒟🇷🄐!", "dra!", "draI", "⒟🇷🄐!"]),
            (
                "a\u{200a}b\u{202f}c d",
                ["a b c d", "a b c d", "a b c d", "abc d"],
            ),
            ("НΗн ВΒв ΝNν ΥΜΖ", ["HHн BBв Nnv YMZ"; 4]),
            (
                "彼はVёx٣は、vex",
                ["彼\u{200b}は\u{200b}vex٣\u{200b}は、vex"; 4],
            ),
            ("Οδός", ["oδoσ"; 4]),
            ("سَـارة בֶּן־אדם", ["سارة בן-אדם"; 4]),
            ("がー", ["か\u{3099}\u{200b}ー"; 4]),
            ("は@b!", ["は@b!", "は@b!", "は\u{200b}abI", "は@b!"]),
            (
                "İﬁ벡스",
                ["ifi\u{200b}\u{1107}\u{1166}\u{11a8}\u{200b}\u{1109}\u{1173}"; 4],
            ),
        ] {
            assert_eq!(texts(&Forms::of(text)), forms);
        }
    }

    #[test]
    fn a_form_that_is_like_another_one_is_not_searched() {
        for (text, searched) in [
            ("Vex comes.", 1),
            ("Vex comes!", 2),
            ("V3x comes.", 3),
            ("Vex\u{2009}comes.", 2),
            ("Vex🇩🇪 comes.", 4),
        ] {
            let forms = Forms::of(text);
            assert_eq!(forms.searched().count(), searched, "{text}");
        }
    }

    #[test]
    fn what_is_forgotten_leaves_what_tells_where_a_word_or_phrase_begins() {
        let mut forms = Forms::of(&"é1".repeat(LONGEST));
        for _ in 0..2 {
            forms.forget();
            for form in forms.each() {
                assert_eq!(form.text[..form.start].chars().count(), BEFORE);
                assert_eq!(form.text[form.start..].chars().count(), LONGEST);
            }
        }
        // As long as there is so much.
        for more in [0, 1, BEFORE - 1] {
            let mut forms = Forms::of(&"e".repeat(LONGEST + more));
            forms.forget();
            let [plain, ..] = forms.each();
            assert_eq!((plain.text.len(), plain.start), (LONGEST + more, more));
        }
    }

    proptest! {
        #[test]
        fn pieces_have_the_form_of_the_whole(pieces in prop::collection::vec("[ !a14*_\u{200b}\u{200a}\u{3099}\u{93f}\u{5b8}é½гНはがक벡ᄇ🇩]{0,80}|.{0,3}", 0..6)) {
            let mut forms = Forms::new();
            for piece in &pieces {
                let before = forms.clone();
                forms.push(piece);
                for (before, after) in texts(&before).into_iter().zip(texts(&forms)) {
                    prop_assert!(after.starts_with(before));
                }
            }
            let whole = Forms::of(&pieces.concat());
            prop_assert_eq!(texts(&forms), texts(&whole));
            let is_searched = |text| whole.searched().any(|form| form.text() == text);
            prop_assert!(texts(&whole).into_iter().all(is_searched));
        }
    }
}
