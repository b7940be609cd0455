//! Names that are made up.

use sha2::{Digest, Sha256};

const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// So many are nobody else's.
const MANY: usize = 12;

/// What a story's texts are fenced with in prompts: a letter and six digits. Tokenisers make three tokens of that, and no
/// prose has it.
pub(crate) fn fence() -> String {
    let letter = char::from(rand::random_range(b'a'..=b'z'));
    format!("{letter}{:06}", rand::random_range(0..1_000_000))
}

/// The same for a story that was made before there were fences: of a text that none of its readers knows, and so each
/// worker has the same.
pub(crate) fn fence_of(secret: &str) -> String {
    let digest = Sha256::digest(format!("fence {secret}"));
    let number = digest
        .iter()
        .take(8)
        .fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let letter = u8::try_from(number % 26).unwrap_or_default();
    format!(
        "{}{:06}",
        char::from(b'a' + letter),
        number / 26 % 1_000_000
    )
}

pub(crate) fn letters() -> String {
    (0..MANY)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_a_letter_and_six_digits() {
        for fence in [fence(), fence_of(""), fence_of("9f2c"), fence_of("9f2d")] {
            let (letter, digits) = fence.split_at(1);
            assert!(
                letter.bytes().all(|byte| byte.is_ascii_lowercase()),
                "{fence}"
            );
            assert!(
                digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()),
                "{fence}"
            );
        }
        assert_eq!(fence_of("9f2c"), fence_of("9f2c"));
        assert_ne!(fence_of("9f2c"), fence_of("9f2d"));
    }
}
