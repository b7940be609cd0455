//! What a story may tell: whom it is for, and its owner's own lists of words. What no story may is not here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::name::{is_format, is_mark, is_name, shows};

/// The most entries of a list.
pub const MAX_PHRASES: usize = 64;

/// Whom a story is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// Everybody, children too.
    General,
    /// Readers from 13 on.
    #[default]
    Teen,
    /// Adults.
    Mature,
}

/// What a story's texts are judged by, beside what holds for all stories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentPolicy {
    #[serde(default)]
    pub rating: Rating,
    /// What is not shown.
    #[serde(default)]
    pub blocked: Phrases,
    /// What is not looked for: neither by what only flags, nor by what the rating forbids.
    #[serde(default)]
    pub allowed: Phrases,
}

/// What to change of it; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentChange {
    #[serde(default)]
    pub rating: Option<Rating>,
    #[serde(default)]
    pub blocked: Option<Phrases>,
    #[serde(default)]
    pub allowed: Option<Phrases>,
}

/// Words and phrases: at most [`MAX_PHRASES`], each of 1 to [`MAX_NAME`](crate::MAX_NAME) characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Phrases(BTreeSet<String>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    #[error("a list has {0} words: at most {MAX_PHRASES} fit")]
    TooMany(usize),
    #[error(
        "a word of a list has 1 to {} characters, none of them a control character, and something that shows and is no mark of Markdown; no accent is before its first letter",
        crate::MAX_NAME
    )]
    NoPhrase,
}

impl ContentPolicy {
    /// Whether nothing was said of it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&ContentPolicy> for ContentChange {
    /// What is not as it is where nothing was said.
    fn from(content: &ContentPolicy) -> Self {
        let list = |phrases: &Phrases| (!phrases.is_empty()).then(|| phrases.clone());
        Self {
            rating: (content.rating != Rating::default()).then_some(content.rating),
            blocked: list(&content.blocked),
            allowed: list(&content.allowed),
        }
    }
}

impl Phrases {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<String>> for Phrases {
    type Error = PhraseError;

    fn try_from(phrases: Vec<String>) -> Result<Self, PhraseError> {
        let phrases: BTreeSet<String> = phrases.into_iter().collect();
        if phrases.len() > MAX_PHRASES {
            return Err(PhraseError::TooMany(phrases.len()));
        }
        match phrases.iter().all(|phrase| is_phrase(phrase)) {
            true => Ok(Self(phrases)),
            false => Err(PhraseError::NoPhrase),
        }
    }
}

/// Whether it can be found in a text as what it shows: with something that is not looked past, and no mark before that, which
/// would belong to nothing and be looked past too, so that every word of the other letters would be found.
fn is_phrase(text: &str) -> bool {
    let mut seen = text.chars().filter(|c| shows(*c) && !looked_past(*c));
    is_name(text) && seen.next().is_some_and(|first| !is_mark(first))
}

/// Marks of Markdown, in both widths; what draws an Arabic word out, and vowel points and voicing marks of kana that stand alone.
fn looked_past(c: char) -> bool {
    is_format(c)
        || matches!(c, '*' | '~' | '`' | '_' | '＊' | '～' | '｀' | '＿')
        || matches!(c, '\u{37a}' | '\u{640}' | '\u{fc5e}'..='\u{fc63}' | '\u{fcf2}'..='\u{fcf4}' | '\u{fe70}'..='\u{fe7f}' | '\u{ff9e}' | '\u{ff9f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases(list: impl IntoIterator<Item = String>) -> Result<Phrases, PhraseError> {
        Phrases::try_from(list.into_iter().collect::<Vec<_>>())
    }

    #[test]
    fn lists_are_bounded_from_both_sides() {
        let numbered = |count: usize| (0..count).map(|n| format!("word {n}"));
        assert!(phrases(numbered(MAX_PHRASES)).is_ok());
        let error = phrases(numbered(MAX_PHRASES + 1)).unwrap_err();
        assert_eq!(error.to_string(), "a list has 65 words: at most 64 fit");
        let many = std::iter::repeat_n("same".to_owned(), MAX_PHRASES + 1);
        assert_eq!(phrases(many).unwrap().iter().count(), 1);
        assert!(phrases(["ø".repeat(64)]).is_ok());
        for good in [
            "e\u{301}",
            ":)",
            "5",
            "*a*",
            "\u{640}ب",
            "ที่",
            "❤\u{fe0f}",
            "1\u{20e3}",
            "´a",
        ] {
            assert!(phrases([good.to_owned()]).is_ok(), "{good}");
        }
        for bad in [
            "ø".repeat(65),
            String::new(),
            " ".to_owned(),
            "a\nb".to_owned(),
            "_**_".to_owned(),
            "\u{301}".to_owned(),
            "\u{301}a".to_owned(),
            " *\u{200b}\u{301}a".to_owned(),
            "\u{e31}".to_owned(),
            "\u{64e}\u{640}".to_owned(),
            "\u{20dd}\u{fe0f}".to_owned(),
            "＿\u{fe7c}".to_owned(),
            "\u{600}".to_owned(),
            "ﾞ".to_owned(),
        ] {
            assert_eq!(phrases([bad]).unwrap_err(), PhraseError::NoPhrase);
        }
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let content: ContentPolicy = serde_json::from_str("{}").unwrap();
        assert!(content.is_default() && content.rating == Rating::Teen);
        let content: ContentPolicy = serde_json::from_str(r#"{"blocked":["b","a"]}"#).unwrap();
        assert_eq!(content.blocked.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!content.is_default());
        for wrong in [
            r#"{"rating":"adult"}"#,
            r#"{"blocked":[""]}"#,
            r#"{"ban":[]}"#,
        ] {
            assert!(
                serde_json::from_str::<ContentPolicy>(wrong).is_err(),
                "{wrong}"
            );
        }
    }
}
