//! What people write on a command line, and what cannot be meant.

use story::MAX_NAME;

/// Words that an agent can answer.
pub(super) fn words(text: &str) -> Result<String, String> {
    if !text.contains(story::shows) {
        return Err("there is nothing in it to answer: write some words".to_owned());
    }
    Ok(text.to_owned())
}

/// A name as it stands before what is said.
pub(super) fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if !story::is_name(name) {
        return Err(format!(
            "a name has 1 to {MAX_NAME} characters, none of them a control character, and something that shows"
        ));
    }
    Ok(name.to_owned())
}

/// `NAME=TEXT`
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as NAME=TEXT")?;
    Ok((name(key)?, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_nothing_to_answer() {
        for text in ["", " \n", "\u{200b}", "\u{feff} \u{202e}", "\u{7}"] {
            assert!(words(text).is_err(), "{text:?}");
        }
        for text in ["?", "\u{200b}a", "👩\u{200d}🚀", "…"] {
            assert_eq!(words(text).as_deref(), Ok(text));
        }
    }
}
