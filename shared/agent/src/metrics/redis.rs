//! How a worker finds Redis.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{counter, register};

/// Whether Redis is there, and keeps what is written.
#[derive(Debug, Clone)]
pub(super) struct Redis {
    pub(super) is_up: IntGaugeVec,
    pub(super) unreplicated: IntCounterVec,
}

impl Redis {
    pub(super) fn new(registry: &Registry) -> Self {
        let is_up = Opts::new(
            "storyfleet_redis_up",
            "1 while Redis answers everything that this worker asks it, else 0.",
        );
        Self {
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
