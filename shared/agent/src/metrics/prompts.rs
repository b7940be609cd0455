//! Of prompts in a folder.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{counter, register};

/// Of prompts in a folder.
#[derive(Debug, Clone)]
pub(super) struct Prompts {
    pub(super) reloads: IntCounterVec,
    pub(super) stale: IntGaugeVec,
}

impl Prompts {
    pub(super) fn new(registry: &Registry) -> Self {
        let stale = Opts::new(
            "storyfleet_prompts_stale",
            "1 while the prompts in the folder cannot be used, and those before are.",
        );
        Self {
            reloads: counter(
                registry,
                "storyfleet_prompt_reloads_total",
                "Changes of the prompts in the folder: loaded, failed.",
                &["agent", "result"],
            ),
            stale: register(registry, IntGaugeVec::new(stale, &["agent"])),
        }
    }
}
