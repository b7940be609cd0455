//! The objects of a text that is perhaps JSON: each from its brace to the one that closes it.

/// The outermost objects, in their order; `None` for one without an end, which is the last.
pub(super) fn objects(text: &str) -> impl Iterator<Item = Option<&str>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find('{')?;
        let end = closed(&rest.as_bytes()[start..]);
        let (object, after) = match end {
            Some(length) => (Some(&rest[start..start + length]), start + length),
            None => (None, rest.len()),
        };
        rest = &rest[after..];
        Some(object)
    })
}

/// How long the object is that `text` begins with. All that counts here is ASCII, and no byte of another character is.
fn closed(text: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (place, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => depth += 1,
            b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place + 1);
        }
    }
    None
}
