//! How many connections one person may have on this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections by person. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    most: u32,
    counts: Arc<Mutex<HashMap<Arc<str>, u32>>>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    sub: Arc<str>,
    quota: Quota,
}

impl Quota {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            counts: Arc::default(),
        }
    }

    /// One more for this person, unless they have all that they may have.
    pub(crate) fn take(&self, sub: &str) -> Option<Place> {
        let sub: Arc<str> = sub.into();
        let mut counts = self.counts();
        let count = counts.entry(Arc::clone(&sub)).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place {
            sub,
            quota: self.clone(),
        })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        if let Some(count) = counts.get_mut(&self.sub) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.sub);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_has_so_many_places_and_no_more() {
        let quota = Quota::new(2);
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
