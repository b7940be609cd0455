//! Numbers of payment cards, and no other number of sixteen digits: an id or a time in microseconds has as many.

use std::sync::LazyLock;

use regex::Regex;

use crate::phrases::first;

pub(crate) const SIXTEEN: &str = r"\b(?:\d{4}[ .-]?){3}\d{4}\b";

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(SIXTEEN).unwrap_or_else(|error| unreachable!("a test compiles it: {error}"))
});

/// Whether the number of a card begins in `text` at `from` or later.
#[must_use]
pub(crate) fn holds_card(text: &str, mut from: usize) -> bool {
    while let Some(found) = NUMBER.find_at(text, from) {
        if is_card(found.as_str()) {
            return true;
        }
        // Groups of digits before a card would hide it from a search that goes on behind them.
        from = found.start() + first(found.as_str());
    }
    false
}

/// Whether `number` begins as the cards of a network do, and its check digit is right.
fn is_card(number: &str) -> bool {
    let digits = number.chars().filter(|c| !matches!(c, ' ' | '-' | '.'));
    let digits: Option<Vec<u32>> = digits.map(|digit| digit.to_digit(10)).collect();
    match digits.as_deref() {
        Some([first, ..]) if !(2..=6).contains(first) => false,
        Some(digits) => is_checked(digits),
        // Of another script than its check is reckoned in here: sixteen of those are rare enough.
        None => true,
    }
}

/// ISO/IEC 7812: with every second digit from the end doubled, the sum of all digits ends in 0.
fn is_checked(digits: &[u32]) -> bool {
    let mut sum = 0;
    for (place, digit) in digits.iter().rev().enumerate() {
        let value = digit * (1 + u32::from(place % 2 == 1));
        sum += value / 10 + value % 10;
    }
    sum % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_found_and_no_other_number() {
        for (text, found) in [
            ("pay with 4111 1111 1111 1111", true),
            ("5555-5555-5555-4444.", true),
            ("4111.1111.1111.1111.", true),
            ("6011111111111117", true),
            ("1234 4111 1111 1111 1111", true),
            ("٤١١١ ١١١١ ١١١١ ١١١١", true),
            ("4111 1111 1111 1112", false),
            ("at 1795538664227123", false),
            ("at 1795538664227127", false),
            ("0000 0000 0000 0000", false),
            ("41111111111111111", false),
            ("", false),
        ] {
            assert_eq!(holds_card(text, 0), found, "{text}");
        }
    }
}
