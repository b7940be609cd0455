//! The one source of chance: seeded by what was asked, the same on every machine and in every version.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice that depend on every one of `parts`, in order.
    pub(crate) fn of(seed: u64, parts: &[&[u8]]) -> Self {
        let hash = |seed, part: &&[u8]| xxh3_64_with_seed(part, seed);
        Self(parts.iter().fold(seed, hash))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    pub(crate) fn chance(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        let width = (high - low) as u128 + 1;
        low + ((u128::from(self.roll()) * width) >> 64) as usize
    }

    /// One of `from`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.between(0, from.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parts_roll_the_same_and_others_differ() {
        let roll = |seed, parts: &[&[u8]]| Dice::of(seed, parts).roll();
        assert_eq!(roll(1, &[b"ab", b"c"]), roll(1, &[b"ab", b"c"]));
        assert_ne!(roll(1, &[b"ab", b"c"]), roll(1, &[b"a", b"bc"]));
        assert_ne!(roll(1, &[b"ab"]), roll(2, &[b"ab"]));
    }

    #[test]
    fn the_first_roll_never_changes() {
        assert_eq!(Dice::new(0).roll(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn between_reaches_both_ends_and_nothing_else() {
        let mut dice = Dice::new(7);
        let seen: std::collections::BTreeSet<_> = (0..200).map(|_| dice.between(2, 4)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }
}
