//! What the model wrote, as the words of one character.

/// A way of not being one character's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the character said nothing")]
    Silent,
    #[error("the answer speaks for somebody else too")]
    SpeaksForOthers,
}

/// The words of `name` in `text`: without the name in front, and without quotation marks around all of it. Ends
/// before the first line that one of `others` says; the fault tells of it.
#[must_use]
pub(crate) fn speech(text: &str, name: &str, others: &[String]) -> (String, Option<Fault>) {
    let own = text.trim();
    let own = unnamed(own, name).unwrap_or(own);
    let foreign = line_starts(own).find(|at| {
        let line = own[*at..].trim_start();
        others.iter().any(|other| unnamed(line, other).is_some())
    });
    let words = unquoted(own[..foreign.unwrap_or(own.len())].trim()).to_owned();
    let fault = match (foreign, words.is_empty()) {
        (Some(_), _) => Some(Fault::SpeaksForOthers),
        (None, true) => Some(Fault::Silent),
        (None, false) => None,
    };
    (words, fault)
}

fn line_starts(text: &str) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1))
}

/// What follows `name:` at the start of `text`, the name perhaps in asterisks.
fn unnamed<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let text = text.trim_start_matches('*');
    let head = text.get(..name.len())?;
    let same = !name.is_empty() && head.to_lowercase() == name.to_lowercase();
    let rest = text[name.len()..].trim_start_matches('*').trim_start();
    let rest = rest.strip_prefix(':').filter(|_| same)?;
    Some(rest.trim_start_matches('*').trim_start())
}

/// Without the one pair of quotation marks that is around all of `text`.
fn unquoted(text: &str) -> &str {
    const PAIRS: [(char, char); 5] = [('"', '"'), ('“', '”'), ('«', '»'), ('„', '“'), ('\'', '\'')];
    let inner = PAIRS.iter().find_map(|(open, close)| {
        let inner = text.strip_prefix(*open)?.strip_suffix(*close)?;
        (!inner.contains([*open, *close])).then_some(inner.trim())
    });
    inner.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fault::{Silent, SpeaksForOthers};

    #[test]
    fn only_the_characters_own_words_are_kept() {
        for (text, words, fault) in [
            ("Go back.", "Go back.", None),
            (" Sibyl: \"Go back.\"\n", "Go back.", None),
            ("**sibyl:** Go back.", "Go back.", None),
            (
                "“Go back,” she said. “Now.”",
                "“Go back,” she said. “Now.”",
                None,
            ),
            ("“Go back.”", "Go back.", None),
            ("The Sibyl: a title", "The Sibyl: a title", None),
            ("Go back.\nMira: No!", "Go back.", Some(SpeaksForOthers)),
            ("Narrator: Dust falls.", "", Some(SpeaksForOthers)),
            (
                "Two things:\nMiranda, and rain.",
                "Two things:\nMiranda, and rain.",
                None,
            ),
            ("Sibyl:", "", Some(Silent)),
            ("\"\"", "", Some(Silent)),
            ("", "", Some(Silent)),
        ] {
            let others = ["Mira".to_owned(), "Narrator".to_owned()];
            assert_eq!(
                speech(text, "Sibyl", &others),
                (words.to_owned(), fault),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_name_of_any_letters_is_no_trouble() {
        assert_eq!(speech("Ünï: ja", "Ünï", &[]).0, "ja");
        assert_eq!(speech("é", "ab", &[String::new()]).0, "é");
    }
}
