//! What a worker counts, in a registry of its own, so that several workers and tests share a process.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use story::LlmReport;

/// The metrics of one process. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    in_flight: IntGaugeVec,
    commits: IntCounterVec,
    leases_lost: IntCounterVec,
    llm_seconds: HistogramVec,
    llm_tokens: IntCounterVec,
    draft_chunks: IntCounterVec,
    backlog: IntGaugeVec,
    turn_seconds: HistogramVec,
}

/// The same, for one agent: no label is looked up while events run.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    agent: story::Agent,
    all: Metrics,
    pub(crate) in_flight: IntGauge,
    pub(crate) leases_lost: IntCounter,
    pub(crate) draft_chunks: IntCounter,
    pub(crate) backlog: IntGauge,
    llm_seconds: Histogram,
    turn_seconds: Histogram,
}

/// How an event's delivery ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Buried,
    /// Left to its lease: another delivery will try.
    Postponed,
    /// The lease was lost, or the process was told to let go.
    Dropped,
    /// Another worker had it, or had answered it.
    Lost,
}

impl Metrics {
    /// # Panics
    /// Never: the names below are distinct and well-formed, which a test shows.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels);
            register(&registry, made)
        };
        let gauge = |name: &str, help: &str| {
            register(
                &registry,
                IntGaugeVec::new(Opts::new(name, help), &["agent"]),
            )
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let buckets = vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 90.0];
            let options = HistogramOpts::new(name, help).buckets(buckets);
            register(&registry, HistogramVec::new(options, labels))
        };
        Self {
            events: counter(
                "storyfleet_events_total",
                "Deliveries by how they ended.",
                &["agent", "outcome"],
            ),
            in_flight: gauge("storyfleet_in_flight", "Events being answered now."),
            commits: counter(
                "storyfleet_commits_total",
                "Answers of Redis to commits and burials.",
                &["agent", "result"],
            ),
            leases_lost: counter(
                "storyfleet_leases_lost_total",
                "Events taken over by another worker while being answered.",
                &["agent"],
            ),
            llm_seconds: seconds(
                "storyfleet_llm_seconds",
                "Model calls from start to end, retries included.",
                &["agent"],
            ),
            llm_tokens: counter(
                "storyfleet_llm_tokens_total",
                "Tokens by kind.",
                &["agent", "kind"],
            ),
            draft_chunks: counter(
                "storyfleet_draft_chunks_total",
                "Live text sent to readers.",
                &["agent"],
            ),
            backlog: gauge(
                "storyfleet_backlog",
                "Events waiting or in flight in the agent's work stream.",
            ),
            turn_seconds: seconds(
                "storyfleet_turn_seconds",
                "From delivery to its end.",
                &["agent"],
            ),
            registry,
        }
    }

    /// The text format that Prometheus reads.
    ///
    /// # Errors
    /// When a metric has no samples to encode, which the registry never gives.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    pub(crate) fn of(&self, agent: story::Agent) -> Meters {
        let label = &[agent.as_str()];
        Meters {
            agent,
            in_flight: self.in_flight.with_label_values(label),
            leases_lost: self.leases_lost.with_label_values(label),
            draft_chunks: self.draft_chunks.with_label_values(label),
            backlog: self.backlog.with_label_values(label),
            llm_seconds: self.llm_seconds.with_label_values(label),
            turn_seconds: self.turn_seconds.with_label_values(label),
            all: self.clone(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Meters {
    pub(crate) fn ended(&self, outcome: Outcome, took: Duration) {
        let labels = &[self.agent.as_str(), outcome.as_str()];
        self.all.events.with_label_values(labels).inc();
        self.turn_seconds.observe(took.as_secs_f64());
    }

    /// `result`: `done`, `gone`, `fenced`.
    pub(crate) fn committed(&self, result: &str) {
        let labels = &[self.agent.as_str(), result];
        self.all.commits.with_label_values(labels).inc();
    }

    pub(crate) fn spent(&self, reports: &[LlmReport]) {
        let agent = self.agent.as_str();
        for report in reports {
            // The model's name for itself is the provider's to choose: as a label it could make series without end.
            let seconds = Duration::from_millis(report.ms).as_secs_f64();
            self.llm_seconds.observe(seconds);
            let kinds = [
                ("in", report.tokens_in),
                ("cached", report.tokens_cached),
                ("out", report.tokens_out),
            ];
            for (kind, tokens) in kinds {
                self.all
                    .llm_tokens
                    .with_label_values(&[agent, kind])
                    .inc_by(tokens);
            }
        }
    }
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Buried => "buried",
            Self::Postponed => "postponed",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
        }
    }
}

fn register<M>(registry: &Registry, made: prometheus::Result<M>) -> M
where
    M: prometheus::core::Collector + Clone + 'static,
{
    made.and_then(|metric| {
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    })
    .unwrap_or_else(|error| unreachable!("names of metrics are distinct and well-formed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_counts_is_in_the_text() {
        let metrics = Metrics::new();
        let meters = metrics.of(story::Agent::Narrator);
        meters.ended(Outcome::Answered, Duration::from_millis(20));
        meters.committed("fenced");
        let reports = ["m", "m-2026-11-24"].map(|name| LlmReport {
            model: name.into(),
            tokens_out: 7,
            ms: 150,
            ..LlmReport::default()
        });
        meters.spent(&reports);
        let text = metrics.encode().unwrap();
        for line in [
            r#"storyfleet_events_total{agent="narrator",outcome="answered"} 1"#,
            r#"storyfleet_commits_total{agent="narrator",result="fenced"} 1"#,
            r#"storyfleet_llm_tokens_total{agent="narrator",kind="out"} 14"#,
            r#"storyfleet_llm_seconds_sum{agent="narrator"} 0.3"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
