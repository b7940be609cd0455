//! Of models that fail: which are left alone, and what is asked of others, or not at all, since they do.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{counter, register};

#[derive(Debug, Clone)]
pub(super) struct Breaker {
    pub(super) fallbacks: IntCounterVec,
    pub(super) retries_refused: IntCounterVec,
    open: IntGaugeVec,
}

impl Breaker {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            fallbacks: counter(
                registry,
                "storyfleet_llm_fallbacks_total",
                "Requests to another model, since the one before failed.",
                &["agent"],
            ),
            retries_refused: counter(
                registry,
                "storyfleet_llm_retries_refused_total",
                "Retries that were not made, since the fleet made too many.",
                &["agent"],
            ),
            open: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "storyfleet_llm_open",
                        "Whether a model is left alone since it fails.",
                    ),
                    &["agent", "model"],
                ),
            ),
        }
    }

    /// `model`: as the operator names it.
    pub(super) fn is_open(&self, agent: story::Agent, model: &str, is_open: bool) {
        let gauge = self.open.with_label_values(&[agent.as_str(), model]);
        gauge.set(is_open.into());
    }
}
