//! Which lore a turn brings to mind: that whose key it names.

/// Most facts that are looked for in one turn.
const LOOKED_FOR: usize = 1_000;

/// Those of `facts` whose key is in one of the `texts`, as words of their own and in any case.
pub(crate) fn named<T>(
    facts: impl Iterator<Item = T>,
    key: impl Fn(&T) -> &str,
    texts: &[&str],
) -> Vec<T> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
    let is_named = |fact: &T| {
        let key = key(fact).to_lowercase();
        !key.is_empty() && texts.iter().any(|text| holds(text, &key))
    };
    facts.take(LOOKED_FOR).filter(is_named).collect()
}

/// Letters of other scripts may stand beside it: many write without spaces.
fn holds(text: &str, key: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(key).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + key.len()..]);
        !letter(before.chars().next_back()) && !letter(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_as_words_of_its_own() {
        let keys = ["Dust", "old gate", "rust", "龍の城", "", "Öl"];
        let found = |texts: &[&str]| named(keys.into_iter(), |key| key, texts);
        assert_eq!(
            found(&["I trust the DUST.", "An Old Gate!"]),
            ["Dust", "old gate"]
        );
        assert_eq!(found(&["古い龍の城へ", "öl"]), ["龍の城", "Öl"]);
        assert_eq!(found(&["rusty", "industry"]), Vec::<&str>::new());
        assert_eq!(found(&[]), Vec::<&str>::new());
    }
}
