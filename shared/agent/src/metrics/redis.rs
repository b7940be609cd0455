//! How a worker finds Redis.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{counter, register};

/// Whether Redis is there, and keeps what is written.
#[derive(Debug, Clone)]
pub(super) struct Redis {
    pub(super) is_up: IntGaugeVec,
    pub(super) unreplicated: IntCounterVec,
    pub(super) contexts: HistogramVec,
}

/// A round trip within a data centre takes a part of a millisecond.
const TRIP: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

impl Redis {
    pub(super) fn new(registry: &Registry) -> Self {
        let is_up = Opts::new(
            "storyfleet_redis_up",
            "1 while Redis answers everything that this worker asks it, else 0.",
        );
        let contexts = HistogramOpts::new(
            "storyfleet_context_seconds",
            "Reads of a story's context, each one round trip.",
        )
        .buckets(TRIP.to_vec());
        Self {
            contexts: register(registry, HistogramVec::new(contexts, &["agent"])),
            is_up: register(registry, IntGaugeVec::new(is_up, &["agent"])),
            unreplicated: counter(
                registry,
                "storyfleet_unreplicated_total",
                "Writes that are not known to have been on as many replicas in time as were waited for.",
                &["agent"],
            ),
        }
    }
}
