//! What the mock calls a token: a space with up to seven letters, or one sign. Every count and every cut uses it.

const LONGEST: usize = 7;

/// The tokens of a text, in order: joined they are the text, and none splits a character.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (token, after) = rest.split_at(first(rest));
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}

pub(crate) fn count(text: &str) -> u32 {
    tokens(text).fold(0, |count, _| count.saturating_add(1))
}

/// The first `n` tokens of a text.
pub(crate) fn head(text: &str, n: u32) -> &str {
    let mut end = 0;
    for _ in 0..n {
        match first(&text[end..]) {
            0 => break,
            length => end += length,
        }
    }
    &text[..end]
}

/// The length of the first token in bytes; 0 at the end of the text.
fn first(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return 0;
    }
    let start = usize::from(bytes[0] == b' ' && bytes.len() > 1);
    let letters = bytes[start..].iter().take(LONGEST);
    let mut end = start + letters.take_while(|byte| is_letter(**byte)).count();
    if end == start {
        end += 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    end
}

/// Bytes of characters beyond ASCII count as letters.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_word_pieces_and_signs() {
        let seen: Vec<_> = tokens("The lanterns, café — go…  \n").collect();
        let told = [
            "The", " lantern", "s", ",", " café", " —", " go…", "  ", "\n",
        ];
        assert_eq!(seen, told);
    }

    #[test]
    fn tokens_joined_are_the_text() {
        for text in ["", " ", "ééééééééé", "a\u{1f409}b 𝄞𝄞𝄞𝄞 x", "—…“quoted”"]
        {
            assert_eq!(tokens(text).collect::<String>(), text);
            assert_eq!(count(text) as usize, tokens(text).count());
        }
    }

    #[test]
    fn the_head_holds_at_most_n_tokens() {
        assert_eq!(head("one two three", 2), "one two");
        assert_eq!(head("one", 5), "one");
        assert_eq!(head("one", 0), "");
    }
}
