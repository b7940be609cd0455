//! What is told where fewer replicas than `--wait-replicas` asks for have what was written: a failover now may undo it.

use bus::Replicated;
use serde_json::Value;

use crate::output::note;

/// One line on standard error, of something that is done.
pub(crate) fn note_short(replicated: Replicated) {
    if let Replicated::Short(have) = replicated {
        note(&format!(
            "it is done, and only {have} replicas have it yet: a failover now may lose it"
        ));
    }
}

/// The same in what programs read: how many have it, where that is too few.
pub(crate) fn add_short(told: &mut Value, replicated: Replicated) {
    if let Replicated::Short(have) = replicated {
        told["replicas"] = have.into();
    }
}
