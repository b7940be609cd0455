//! How many connections one person, or one address, may have on this node.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is told to who asks for one too many.
pub(crate) const OF_ADDRESS: &str =
    "your address has as many connections as it may have: close one first";
pub(crate) const OF_PERSON: &str = "you have as many connections as you may have: close one first";
pub(crate) const OF_NODE: &str =
    "this node has as many connections as it may have: come back later";
/// And when to try again.
pub(crate) const AFTER: Duration = Duration::from_secs(5);

/// Counts connections by whom they are of. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Quota<K> {
    most: u32,
    counts: Arc<Mutex<HashMap<K, u32>>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Hash + Eq> {
    of: K,
    quota: Quota<K>,
}

impl<K: Hash + Eq + Clone> Quota<K> {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// One more of these, unless they have all that they may have.
    pub(crate) fn take(&self, of: impl Into<K>) -> Option<Place<K>> {
        let of = of.into();
        let mut counts = self.counts();
        let count = counts.entry(of.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place {
            of,
            quota: self.clone(),
        })
    }
}

impl<K: Hash + Eq> Quota<K> {
    fn counts(&self) -> MutexGuard<'_, HashMap<K, u32>> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_has_so_many_places_and_no_more() {
        let quota: Quota<Arc<str>> = Quota::new(2);
        let first = quota.take("mira");
        let second = quota.take("mira");
        assert!(first.is_some() && second.is_some());
        assert!(quota.take("mira").is_none());
        assert!(quota.take("oto").is_some());
        drop(first);
        assert!(quota.take("mira").is_some());
        drop(second);
        assert!(quota.counts().is_empty());
    }
}
