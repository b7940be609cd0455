//! Which letters people see, and what can be the name of somebody in a story. What they say is not cleaned of anything here.

use icu_properties::props::{EnumeratedProperty, GeneralCategory, GeneralCategoryGroup};

/// The longest name of a person or a character, in characters.
pub const MAX_NAME: usize = 64;

/// Whether it can stand before what somebody says: something that shows, and nothing that steers.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let fits = (1..=MAX_NAME).contains(&text.chars().count());
    fits && text.contains(shows) && !text.contains(steers)
}

/// Whether it belongs to the letter before it: an accent, a vowel point, what encloses it.
#[must_use]
pub fn is_mark(c: char) -> bool {
    GeneralCategoryGroup::Mark.contains(GeneralCategory::for_char(c))
}

/// Whether it is there for how others are laid out: most of these show nothing, and those before an Arabic number hardly more.
#[must_use]
pub fn is_format(c: char) -> bool {
    GeneralCategory::for_char(c) == GeneralCategory::Format
}

/// Whether a reader sees anything of it.
#[must_use]
pub fn shows(c: char) -> bool {
    !c.is_whitespace() && !matches!(c, '\u{200c}' | '\u{200d}') && !hides(c)
}

/// What a terminal or a page acts on, or shows as nothing. Joiners are none of it: words are spelt with them.
#[must_use]
pub fn hides(c: char) -> bool {
    steers(c)
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a terminal would act on `c`, or show what follows in another order.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What only steers how text is shown or joined, or is seen as nothing; white space is none of it.
#[must_use]
pub fn unseen(c: char) -> bool {
    // Nearly all text is this.
    if matches!(c, ' '..='~') {
        return false;
    }
    let joins = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    (hides(c) || joins) && !c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_something_and_steers_nothing() {
        for name in ["Sibyl", "村上", "a\u{200b}", "👩\u{200d}🚀"] {
            assert!(is_name(name), "{name:?}");
        }
        for text in [
            "",
            " ",
            "\u{200b}",
            "\u{200d}",
            "a\nb",
            "\u{202e}a",
            "\u{7}",
        ] {
            assert!(!is_name(text), "{text:?}");
        }
        assert!(is_name(&"ø".repeat(MAX_NAME)) && !is_name(&"ø".repeat(MAX_NAME + 1)));
    }
}
