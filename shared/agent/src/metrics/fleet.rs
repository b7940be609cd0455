//! What every worker reads of the whole fleet: how much waits for each agent, since an agent without workers cannot tell.

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

    pub(super) fn queue(&self, agent: story::Agent, queue: &bus::Queue) {
        let label = &[agent.as_str()];
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.backlog
            .with_label_values(label)
            .set(count(queue.backlog));
        self.dead.with_label_values(label).set(count(queue.dead));
        let oldest = self.oldest.with_label_values(label);
        oldest.set(queue.oldest.as_secs_f64());
    }

    pub(super) fn forget(&self) {
        self.backlog.reset();
        self.oldest.reset();
        self.dead.reset();
    }
}
