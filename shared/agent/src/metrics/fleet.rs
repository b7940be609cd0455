//! What every worker reads of the whole fleet: how much waits for each agent, since an agent without workers cannot tell.

use prometheus::core::{Atomic, GenericGaugeVec};
use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry};

use super::register;

#[derive(Debug, Clone)]
pub(super) struct Fleet {
    backlog: IntGaugeVec,
    oldest: GaugeVec,
    dead: IntGaugeVec,
}

impl Fleet {
    pub(super) fn new(registry: &Registry) -> Self {
        let gauge = |name, help| {
            let made = IntGaugeVec::new(Opts::new(name, help), &["agent"]);
            register(registry, made)
        };
        let oldest = Opts::new(
            "storyfleet_oldest_event_seconds",
            "How long the oldest event is in the agent's work stream, waiting or in flight; 0 when there is none.",
        );
        Self {
            backlog: gauge(
                "storyfleet_backlog",
                "Events waiting or in flight in the agent's work stream.",
            ),
            oldest: register(registry, GaugeVec::new(oldest, &["agent"])),
            dead: gauge(
                "storyfleet_dead_letters",
                "Events given up on that nobody has sent again or purged.",
            ),
        }
    }

    /// What cannot be counted is not told: a number that stays, or 0, would be taken for what is.
    pub(super) fn queue(&self, agent: story::Agent, queue: &bus::Queue) {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        tell(&self.backlog, agent, queue.backlog.map(count));
        let oldest = queue.oldest.map(|age| age.as_secs_f64());
        tell(&self.oldest, agent, oldest);
        tell(&self.dead, agent, queue.dead.map(count));
    }

    pub(super) fn forget(&self) {
        self.backlog.reset();
        self.oldest.reset();
        self.dead.reset();
    }
}

fn tell<P: Atomic>(gauges: &GenericGaugeVec<P>, agent: story::Agent, number: Option<P::T>) {
    let label = &[agent.as_str()];
    match number {
        Some(number) => gauges.with_label_values(label).set(number),
        // It is an error where there is none.
        None => drop(gauges.remove_label_values(label)),
    }
}
