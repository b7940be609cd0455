//! A text as the rules see it: what disguises words is undone. Taken piece by piece, so that what went before need not be
//! read again; the form of a text's beginning is the beginning of its form.

use icu_normalizer::DecomposingNormalizerBorrowed;
use regex_syntax::is_word_character;

use crate::rules::LONGEST;

const NFKD: DecomposingNormalizerBorrowed<'static> = DecomposingNormalizerBorrowed::new_nfkd();

/// The most characters that one is taken apart into: a few ligatures are whole sentences.
const PARTS: usize = 4;

/// The most characters beside each other of which none is a word's. More of them change no rule's mind, and would let a text
/// outgrow what anybody looks back.
const WIDEST: usize = 64;

/// The most characters of a form that are kept of what went before: more than a phrase of a story's lists can have in one.
pub(crate) const BEFORE: usize = 384;

/// What stands between letters where a word ends that nothing else tells from what follows: in Japanese nothing stands beside
/// a name. The regex engine knows the border of words of any letters, not that of Latin ones. No text has it in its form.
const BORDER: char = '\u{200b}';

/// The forms of one text, one for each reading.
#[derive(Debug, Clone)]
pub(crate) struct Forms([Form; 3]);

#[derive(Debug, Clone)]
pub(crate) struct Form {
    reading: Reading,
    text: String,
    /// What is before it is only there to tell what word or phrase is around what follows.
    start: usize,
    /// How many at the end are no word's.
    wide: usize,
}

/// What stands for letters. Signs do not where they only call out, so that digits alone are a reading too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Written,
    Digits,
    Signs,
}

impl Forms {
    pub(crate) fn new() -> Self {
        Self([Reading::Written, Reading::Digits, Reading::Signs].map(Form::new))
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut forms = Self::new();
        forms.push(text);
        forms
    }

    pub(crate) fn each(&self) -> [&Form; 3] {
        self.0.each_ref()
    }

    pub(crate) fn push(&mut self, piece: &str) {
        let lower = piece.chars().flat_map(parts).flat_map(char::to_lowercase);
        // What a letter becomes may have such marks too.
        let seen = lower.flat_map(parts).filter(|c| !dropped(*c));
        for c in seen.map(look) {
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

    fn push(&mut self, c: char) {
        let c = self.reading.letter(c);
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
            let last = self.text.chars().next_back();
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

/// Whether a letter is of another word than the one right behind it, or of another syllable of Hangul: half a syllable is no
/// word's end.
fn ends_word(letter: char, behind: char) -> bool {
    // Nearly all text is that.
    if letter.is_ascii() && behind.is_ascii() {
        return false;
    }
    let one_is = |of: fn(char) -> bool| of(letter) != of(behind);
    is_word_character(letter)
        && is_word_character(behind)
        && (begins_syllable(behind) || one_is(is_of_hangul) || one_is(is_of_alphabet))
}

/// The letters that syllables of Hangul are made of.
fn is_of_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}')
}

fn begins_syllable(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115e}')
}

/// Letters of Latin, Greek and Cyrillic, of which a word may have any, since they look alike; digits, which stand for some.
fn is_of_alphabet(c: char) -> bool {
    c.is_numeric()
        || matches!(c, 'a'..='z' | 'ª' | 'µ' | 'º' | 'ß'..='\u{2af}' | '\u{370}'..='\u{52f}' | '\u{1c80}'..='\u{1c8f}'
            | '\u{1d00}'..='\u{1dbf}' | '\u{1e00}'..='\u{1fff}' | '\u{214e}' | '\u{2184}' | '\u{2c60}'..='\u{2c7f}'
            | '\u{a640}'..='\u{a69f}' | '\u{a720}'..='\u{a7ff}' | '\u{ab30}'..='\u{ab6f}' | '\u{10780}'..='\u{107bf}' | '\u{1df00}'..='\u{1dfff}')
}

/// What a character is made of: a letter and its accents, the letters of a syllable or a ligature, the plain one of a bold or
/// circled one.
fn parts(c: char) -> impl Iterator<Item = char> {
    // Nearly all text is that.
    let is_made = !c.is_ascii() && c.is_alphabetic();
    let is_whole = !is_made && !matches!(c, '！'..='～' | '\u{1d7ce}'..='\u{1d7ff}');
    let apart = (!is_whole).then(|| NFKD.normalize_iter(std::iter::once(c)).take(PARTS));
    is_whole
        .then_some(c)
        .into_iter()
        .chain(apart.into_iter().flatten())
}

/// What cannot be seen, and marks that only change how letters look: those of Markdown too, which a page may show so, and in
/// Hebrew and Arabic the vowels, which most texts leave out, and what draws a word out.
fn dropped(c: char) -> bool {
    story::unseen(c)
        || matches!(c, '*' | '~' | '`' | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}'
            | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}')
        || matches!(c, '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}' | '\u{5c2}' | '\u{5c4}' | '\u{5c5}' | '\u{5c7}'
            | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}')
}

impl Reading {
    fn letter(self, c: char) -> char {
        match (self, c) {
            (Self::Written, c) => c,
            (_, '0') => 'o',
            (_, '1') | (Self::Signs, '!' | '|') => 'i',
            (_, '3') => 'e',
            (_, '4') | (Self::Signs, '@') => 'a',
            (_, '5') | (Self::Signs, '$') => 's',
            (_, '7') => 't',
            (_, other) => other,
        }
    }
}

/// The Latin letter that another one looks like, the sigma of a word's middle for that of its end, and of quotation marks and
/// dashes the plain one.
fn look(c: char) -> char {
    match c {
        'а' | 'α' | 'ᴀ' => 'a',
        'ʙ' => 'b',
        'с' | 'ᴄ' => 'c',
        'ԁ' | 'ᴅ' | 'đ' => 'd',
        'е' | 'ε' | 'ᴇ' => 'e',
        'ꜰ' => 'f',
        'ɢ' => 'g',
        'һ' | 'ʜ' => 'h',
        'і' | 'ι' | 'ı' | 'ɪ' => 'i',
        'ј' | 'ᴊ' => 'j',
        'к' | 'κ' | 'ᴋ' => 'k',
        'ӏ' | 'ł' | 'ʟ' => 'l',
        'м' | 'ᴍ' => 'm',
        'ɴ' => 'n',
        'о' | 'ο' | 'ø' | 'ᴏ' => 'o',
        'р' | 'ρ' | 'ᴘ' => 'p',
        'ԛ' => 'q',
        'ʀ' => 'r',
        'ѕ' | 'ꜱ' => 's',
        'т' | 'τ' | 'ᴛ' => 't',
        'υ' | 'ᴜ' => 'u',
        'ν' | 'ᴠ' => 'v',
        'ԝ' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'ʏ' => 'y',
        'ᴢ' => 'z',
        'ς' => 'σ',
        '‘' | '’' | '‚' | '′' => '\'',
        '“' | '”' | '„' | '«' | '»' | '″' => '"',
        '‐'..='―' | '−' | '\u{5be}' => '-',
        '…' => '.',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(forms: &Forms) -> [&str; 3] {
        forms.each().map(Form::text)
    }

    #[test]
    fn what_disguises_words_is_undone() {
        for (text, forms) in [
            ("A\u{200b} \n\t b\u{301}", ["a b", "a b", "a b"]),
            ("р0RN！", ["p0rn!", "porn!", "porni"]),
            ("kıll_**me**", ["kill me", "kill me", "kill me"]),
            ("don’t—“Çü…", ["don't-\"cu."; 3]),
            ("po\u{20dd}rn", ["porn"; 3]),
            ("𝐝𝔯ⓐ🄶ᴏɴ ԁrаgоn", ["dragon dragon"; 3]),
            ("彼はVёx٣は、vex", ["彼は\u{200b}vex٣\u{200b}は、vex"; 3]),
            ("Οδός", ["oδoσ"; 3]),
            ("سَـارة בֶּן־אדם", ["سارة בן-אדם"; 3]),
            ("は@b!", ["は@b!", "は@b!", "は\u{200b}abi"]),
            (
                "İﬁ벡스",
                ["ifi\u{200b}\u{1107}\u{1166}\u{11a8}\u{200b}\u{1109}\u{1173}"; 3],
            ),
        ] {
            assert_eq!(texts(&Forms::of(text)), forms);
        }
    }

    #[test]
    fn all_letters_of_alphabets_that_look_alike_are_of_one_word() {
        let scripts = r"^(?:[\p{Latin}\p{Greek}\p{Cyrillic}&&\p{L}]|\p{Nd})$";
        let scripts = regex::Regex::new(scripts).unwrap();
        let of_others = regex::Regex::new(
            r"[\p{Han}\p{Hiragana}\p{Thai}\p{Hangul}\p{Arabic}\p{Hebrew}&&\p{L}]",
        )
        .unwrap();
        for c in '\0'..'\u{20000}' {
            let forms = Forms::of(c.encode_utf8(&mut [0; 4]));
            let [written, ..] = texts(&forms);
            let is_of = |c| written.len() == char::len_utf8(c) && is_of_alphabet(c);
            let seen = written.chars().next().is_some_and(is_of);
            assert!(seen || !scripts.is_match(written), "{written:?}");
            assert!(!seen || !of_others.is_match(written), "{written:?}");
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
        fn pieces_have_the_form_of_the_whole(pieces in prop::collection::vec("[ !a4*_\u{200b}é½гは벡ᄇ]{0,80}|.{0,3}", 0..6)) {
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
        }
    }
}
