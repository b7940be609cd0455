//! What people feel of the fleet: how long after they acted the first words come, and the whole answer.

use prometheus::{HistogramVec, Registry};

use super::seconds;

#[derive(Debug, Clone)]
pub(super) struct People {
    pub(super) first_words: HistogramVec,
    pub(super) answers: HistogramVec,
}

impl People {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            first_words: seconds(
                registry,
                "storyfleet_first_words_seconds",
                "From a person's action to the first words of its answer in the live text.",
            ),
            answers: seconds(
                registry,
                "storyfleet_answer_seconds",
                "From a person's action to its answer, failure or verdict in Redis.",
            ),
        }
    }
}
