//! Where an answer ends that was cut.

/// `text` up to the end of its last whole sentence; all of it when no sentence ends.
#[must_use]
pub fn sentences(text: &str) -> &str {
    let mut ends = text.char_indices().rev().map(|(at, c)| at + c.len_utf8());
    let end = ends.find(|end| {
        let (sentence, rest) = text.split_at(*end);
        story::ends_sentence(sentence, rest.chars().next())
    });
    end.map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cut_text_ends_with_its_last_sentence() {
        for (text, whole) in [
            ("The door opens. Beyond it lies a", "The door opens."),
            ("“Who is it?” A step", "“Who is it?”"),
            ("It costs 3.50 and", "It costs 3.50 and"),
            ("It ends.", "It ends."),
            ("One. Two. v1.2 of", "One. Two."),
            ("門が開く。その先に", "門が開く。"),
            ("「行け！」と彼は言う。そして「待", "「行け！」と彼は言う。"),
            ("他说：“走吧。”门开了。后面是", "他说：“走吧。”门开了。"),
            ("「行け！」", "「行け！」"),
            ("", ""),
        ] {
            assert_eq!(sentences(text), whole);
        }
    }

    proptest! {
        #[test]
        fn a_cut_is_a_prefix(text in ".{0,60}") {
            prop_assert!(text.starts_with(sentences(&text)));
        }
    }
}
