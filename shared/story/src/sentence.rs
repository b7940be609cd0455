//! Where sentences end.

const CLOSING: [char; 9] = ['"', '\'', '”', '’', '»', ')', '*', '」', '』'];

/// The last three have no space behind them.
const ENDING: [char; 7] = ['.', '!', '?', '…', '。', '！', '？'];

/// Whether `text` ends with a whole sentence, which its quotation marks belong to, where `next` is the letter behind it;
/// `None` where the text is over.
#[must_use]
pub fn ends_sentence(text: &str, next: Option<char>) -> bool {
    let ending = match next {
        Some(c) if CLOSING.contains(&c) => return false,
        Some(c) if !c.is_whitespace() => &ENDING[4..],
        _ => &ENDING,
    };
    text.trim_end_matches(CLOSING).ends_with(ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_with_its_quotation_marks_and_where_no_word_goes_on() {
        for (text, next, ends) in [
            ("It ends.", None, true),
            ("It ends", None, false),
            ("It ends.", Some('\n'), true),
            ("3.", Some('5'), false),
            ("“Who is it?", Some('”'), false),
            ("“Who is it?”", Some(' '), true),
            ("“Who is it?”", Some('h'), false),
            ("門が開く。", Some('中'), true),
            ("「行け！", Some('」'), false),
            ("「行け！」", Some('と'), true),
            ("門が開く", Some('。'), false),
            ("”", None, false),
            ("", None, false),
        ] {
            assert_eq!(ends_sentence(text, next), ends, "{text}{next:?}");
        }
    }
}
