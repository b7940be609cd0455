//! Somebody whose token was verified.

use serde::{Deserialize, Serialize};
use story::{MAX_NAME, MAX_USER_BYTES, StoryId};

use super::grant::{Grants, Role};

/// The longest id of a token, in bytes.
const MAX_JTI_BYTES: usize = 128;

/// Somebody, as their token says. Made by verification alone, or read back from where a verified one was kept.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[non_exhaustive]
pub struct Identity {
    /// Their id: 1 to 64 bytes, and nothing invisible in it.
    pub sub: String,
    /// What others read: 1 to 64 characters, and nothing invisible in it.
    pub name: String,
    /// The token's id, for revocation: 1 to 128 bytes.
    pub jti: Option<String>,
    /// When the token was made, in seconds since 1970.
    pub issued_at: Option<u64>,
    /// When it ends, in seconds since 1970, before the year 10000. It is good for [`LEEWAY`](super::LEEWAY) longer.
    pub expires_at: u64,
    pub stories: Grants,
}

impl Identity {
    /// Whether its time is over by our clock, in seconds since 1970. A connection ends then; the leeway is for requests.
    #[must_use]
    pub fn is_over(&self, now: u64) -> bool {
        self.expires_at <= now
    }

    /// What they may do in `story`; nothing without a role.
    #[must_use]
    pub fn role(&self, story: &StoryId) -> Option<Role> {
        self.stories.role(story)
    }

    /// Whether they may create a story of that id: its owner may.
    #[must_use]
    pub fn may_create(&self, story: &StoryId) -> bool {
        self.role(story) == Some(Role::Owner)
    }
}

/// Whether it can be the id of a person: nobody can pass for another by what is not seen.
pub(super) fn is_sub(text: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&text.len()) && is_visible(text) && text.trim() == text
}

/// Whether it can be the name of a person.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.chars().count()) && is_visible(text)
}

/// Whether it can be the id of a token.
pub(super) fn is_jti(text: &str) -> bool {
    (1..=MAX_JTI_BYTES).contains(&text.len()) && !text.contains(char::is_control)
}

/// Whether all of it can be seen. Joiners pass between letters beyond ASCII: Persian, Hindi and emoji are spelt with
/// them, and nobody's Latin name is.
fn is_visible(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let joins = |i: usize| {
        let beyond = |c: Option<&char>| c.is_some_and(|c| !c.is_ascii() && !is_joiner(*c));
        i > 0 && beyond(chars.get(i - 1)) && beyond(chars.get(i + 1))
    };
    chars.iter().enumerate().all(|(i, &c)| {
        if is_joiner(c) {
            joins(i)
        } else {
            !story::hides(c)
        }
    })
}

fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_shows_is_a_name() {
        for name in [
            "Mira",
            "Søren Ås",
            "می\u{200c}خواهم",
            "👩\u{200d}🚀",
            "❤\u{fe0f}",
            "O'Neil",
            "村上",
        ] {
            assert!(is_name(name), "{name}");
        }
    }

    #[test]
    fn what_nobody_sees_is_in_no_name_and_no_id() {
        for text in [
            "",
            "Mira\u{200d}",
            "Mira\u{200c}x",
            "\u{200d}村",
            "村\u{200d}\u{200d}村",
            "Mi\u{200b}ra",
            "Mira\u{202e}",
            "\u{feff}Mira",
            "Mi\nra",
            "Mira\u{0}",
            "a\u{ad}b",
            "\u{e0041}x",
            "\u{3164}",
        ] {
            assert!(!is_name(text), "{text:?}");
            assert!(!is_sub(text), "{text:?}");
        }
    }

    #[test]
    fn ids_and_names_have_bounds() {
        assert!(is_sub("u") && is_sub(&"u".repeat(64)) && !is_sub(&"u".repeat(65)));
        assert!(!is_sub(" u") && !is_sub("u "));
        assert!(is_name(&"ø".repeat(64)) && !is_name(&"ø".repeat(65)));
        assert!(is_jti(&"j".repeat(128)) && !is_jti(&"j".repeat(129)));
        assert!(is_jti("j") && !is_jti("") && !is_jti("a\u{7}"));
    }
}
