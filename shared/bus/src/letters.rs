//! Names that are made up.

const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
/// So many are nobody else's.
const MANY: usize = 12;

pub(crate) fn letters() -> String {
    (0..MANY)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect()
}
