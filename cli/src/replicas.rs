//! What is told where fewer replicas than `--wait-replicas` asks for may have what was written: a failover now may undo it.

use bus::Replicated;
use serde_json::Value;

use crate::output::note;

/// One line on standard error, of something that is done.
pub(crate) fn note_doubt(replicated: Replicated) {
    note_doubt_and(replicated, "");
}

/// The same with what to do about it.
pub(crate) fn note_doubt_and(replicated: Replicated, and: &str) {
    let which = match replicated {
        Replicated::Enough | Replicated::Unasked => return,
        Replicated::Short(have) => format!("only {have} replicas have it yet"),
        Replicated::Unknown => "whether replicas have it is not known".to_owned(),
    };
    note(&format!(
        "it is done, and {which}: a failover now may lose it{and}"
    ));
}

/// The same in what programs read: a word, and how many have it where that is too few.
pub(crate) fn add_replicated(told: &mut Value, replicated: Replicated) {
    if let Some(word) = replicated.word() {
        told["replicated"] = word.into();
    }
    if let Some(have) = replicated.short() {
        told["replicas"] = have.into();
    }
}
