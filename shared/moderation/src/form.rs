//! A text as the rules see it: what disguises words is undone. Taken piece by piece, so that what went before need not be
//! read again; the form of a text's beginning is the beginning of its form.

use regex::Regex;

use crate::rules::LONGEST;

/// The most characters beside each other of which none is a word's. More of them change no rule's mind, and would let a text
/// outgrow what anybody looks back.
const WIDEST: usize = 64;

/// The two forms of one text: as it is written, and with digits and signs as the letters that they stand for.
#[derive(Debug, Clone)]
pub(crate) struct Forms([Form; 2]);

#[derive(Debug, Clone)]
pub(crate) struct Form {
    leet: bool,
    text: String,
    /// What is before it is only there to tell whether a word begins with what follows.
    start: usize,
    /// How many at the end are no word's.
    wide: usize,
}

impl Forms {
    pub(crate) fn new() -> Self {
        Self([Form::new(false), Form::new(true)])
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut forms = Self::new();
        forms.push(text);
        forms
    }

    pub(crate) fn each(&self) -> [&Form; 2] {
        self.0.each_ref()
    }

    pub(crate) fn each_mut(&mut self) -> [&mut Form; 2] {
        self.0.each_mut()
    }

    pub(crate) fn push(&mut self, piece: &str) {
        let seen = piece.chars().filter(|c| !dropped(*c));
        for c in seen.flat_map(char::to_lowercase).map(look) {
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
    fn new(leet: bool) -> Self {
        Self {
            leet,
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

    /// Puts points, which are part of no rule and no word, in the place of all that `phrases` finds, of the same length.
    pub(crate) fn mask(&mut self, phrases: &Regex) {
        let mut masked = String::with_capacity(self.text.len());
        let mut from = self.start;
        masked.push_str(&self.text[..from]);
        while let Some(found) = phrases.find_at(&self.text, from) {
            masked.push_str(&self.text[from..found.start()]);
            masked.extend(std::iter::repeat_n('.', found.len()));
            from = found.end();
        }
        masked.push_str(&self.text[from..]);
        self.text = masked;
    }

    fn push(&mut self, c: char) {
        let c = if self.leet { letter(c) } else { c };
        // One that joins words would hide where each begins.
        let c = if c.is_whitespace() || c == '_' {
            ' '
        } else {
            c
        };
        if c == ' ' && self.text.ends_with(' ') {
            return;
        }
        self.wide = match regex_syntax::is_word_character(c) {
            true => 0,
            false => self.wide + 1,
        };
        if self.wide <= WIDEST {
            self.text.push(c);
        }
    }

    fn forget(&mut self) {
        let mut ends = self.text.char_indices().rev().map(|(at, _)| at);
        let (Some(start), Some(before)) = (ends.nth(LONGEST - 1), ends.next()) else {
            return;
        };
        self.text.drain(..before);
        self.start = start - before;
    }
}

/// What cannot be seen, and marks that only change how letters look: those of Markdown too, which a page may show so.
fn dropped(c: char) -> bool {
    story::unseen(c)
        || matches!(c, '*' | '~' | '`' | '\u{300}'..='\u{36f}' | '\u{fe00}'..='\u{fe0f}')
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
        'і' | 'ι' | 'ı' | 'í' | 'ì' | 'ï' | 'î' => 'i',
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
    use proptest::prelude::*;

    fn texts(forms: &Forms) -> [&str; 2] {
        forms.each().map(Form::text)
    }

    #[test]
    fn what_disguises_words_is_undone() {
        for (text, plain, leet) in [
            ("A\u{200b} \n\t b\u{301}", "a b", "a b"),
            ("р0RN！", "p0rn!", "porni"),
            ("kıll_**me**", "kill me", "kill me"),
        ] {
            assert_eq!(texts(&Forms::of(text)), [plain, leet]);
        }
    }

    #[test]
    fn what_is_forgotten_leaves_the_letter_that_tells_where_a_word_begins() {
        let mut forms = Forms::of(&"é1".repeat(LONGEST));
        forms.forget();
        let [plain, leet] = forms.each();
        assert_eq!(plain.text.chars().count(), LONGEST + 1);
        assert_eq!((&plain.text[..plain.start], plain.start), ("1", 1));
        assert_eq!(leet.text[leet.start..].chars().count(), LONGEST);
        forms.forget();
        assert_eq!(forms.each()[0].text.chars().count(), LONGEST + 1);
    }

    proptest! {
        #[test]
        fn pieces_have_the_form_of_the_whole(pieces in prop::collection::vec("[ !a4*_\u{200b}é½]{0,80}|.{0,3}", 0..6)) {
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
