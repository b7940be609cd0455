//! What a worker counts, in a registry of its own, so that several workers and tests share a process.

mod breaker;
mod fleet;
mod model;
mod outcome;
mod people;
mod prompts;
mod redis;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use story::Event;

use self::breaker::Breaker;
use self::fleet::Fleet;
use self::model::Model;
pub(crate) use self::outcome::Outcome;
use self::people::People;
use self::prompts::Prompts;
use self::redis::Redis;

/// The metrics of one process. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    in_flight: IntGaugeVec,
    commits: IntCounterVec,
    leases_lost: IntCounterVec,
    model: Model,
    breaker: Breaker,
    draft_chunks: IntCounterVec,
    recordings: IntCounterVec,
    recording_bytes: IntCounterVec,
    slots: IntGaugeVec,
    redis: Redis,
    fleet: Fleet,
    people: People,
    prompts: Prompts,
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
    pub(crate) slots: IntGauge,
    pub(crate) redis_up: IntGauge,
    pub(crate) unreplicated: IntCounter,
    /// Calls that wait for leave, and for how long they did.
    pub(crate) llm_waiting: IntGauge,
    pub(crate) llm_waits: Histogram,
    pub(crate) paid_twice: IntCounter,
    pub(crate) llm_fallbacks: IntCounter,
    pub(crate) llm_retries_refused: IntCounter,
    first_words: Histogram,
    answers: Histogram,
    pub(crate) prompts_loaded: IntCounter,
    pub(crate) prompts_failed: IntCounter,
    pub(crate) prompts_stale: IntGauge,
    turn_seconds: Histogram,
    pub(crate) contexts: Histogram,
}

impl Metrics {
    /// # Panics
    /// Never: the names below are distinct and well-formed, which a test shows.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        release(&registry);
        let gauge = |name, help| {
            let made = IntGaugeVec::new(Opts::new(name, help), &["agent"]);
            register(&registry, made)
        };
        Self {
            events: counter(
                &registry,
                "storyfleet_events_total",
                "Deliveries by how they ended.",
                &["agent", "outcome"],
            ),
            in_flight: gauge("storyfleet_in_flight", "Events being answered now."),
            commits: counter(
                &registry,
                "storyfleet_commits_total",
                "Answers of Redis to commits and burials.",
                &["agent", "result"],
            ),
            leases_lost: counter(
                &registry,
                "storyfleet_leases_lost_total",
                "Events taken over by another worker while being answered.",
                &["agent"],
            ),
            model: Model::new(&registry),
            breaker: Breaker::new(&registry),
            draft_chunks: counter(
                &registry,
                "storyfleet_draft_chunks_total",
                "Live text sent to readers.",
                &["agent"],
            ),
            recordings: counter(
                &registry,
                "storyfleet_recordings_total",
                "Recordings of turns: kept, too_large, failed.",
                &["agent", "result"],
            ),
            recording_bytes: counter(
                &registry,
                "storyfleet_recording_bytes_total",
                "Bytes of the recordings that were kept, compressed.",
                &["agent"],
            ),
            slots: gauge("storyfleet_slots", "Events that can be answered at once."),
            redis: Redis::new(&registry),
            fleet: Fleet::new(&registry),
            people: People::new(&registry),
            prompts: Prompts::new(&registry),
            turn_seconds: seconds(
                &registry,
                "storyfleet_turn_seconds",
                "From delivery to its end.",
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

    /// Counts the model calls of an agent: for [`llm::Settings::observer`].
    #[must_use]
    pub fn llm(&self, agent: story::Agent) -> llm::Observer {
        let (calls, answers) = (self.model.clone(), self.model.clone());
        llm::Observer::new(move |ended| calls.tried(agent, ended))
            .structured(move |structured| answers.structured(agent, structured))
    }

    /// Everything that can be counted is there from the start, as 0: of a series that begins with its first failure that one
    /// is not seen to have happened.
    fn begin(&self, agent: story::Agent) {
        let each = |counts: &IntCounterVec, words: &[&str]| {
            for word in words {
                counts.with_label_values(&[agent.as_str(), word]);
            }
        };
        each(&self.events, &Outcome::ALL.map(Outcome::as_str));
        each(&self.commits, &["done", "gone", "fenced"]);
        each(&self.recordings, &["kept", "too_large", "failed"]);
        self.recording_bytes.with_label_values(&[agent.as_str()]);
        self.redis.unreplicated.with_label_values(&[agent.as_str()]);
        self.model.begin(agent);
    }

    pub(crate) fn of(&self, agent: story::Agent) -> Meters {
        self.begin(agent);
        let label = &[agent.as_str()];
        let reloads = |result| {
            let labels = &[agent.as_str(), result];
            self.prompts.reloads.with_label_values(labels)
        };
        Meters {
            agent,
            in_flight: self.in_flight.with_label_values(label),
            leases_lost: self.leases_lost.with_label_values(label),
            draft_chunks: self.draft_chunks.with_label_values(label),
            slots: self.slots.with_label_values(label),
            redis_up: self.redis.is_up.with_label_values(label),
            unreplicated: self.redis.unreplicated.with_label_values(label),
            llm_waiting: self.model.waiting.with_label_values(label),
            llm_waits: self.model.waits.with_label_values(label),
            paid_twice: self.model.paid_twice.with_label_values(label),
            llm_fallbacks: self.breaker.fallbacks.with_label_values(label),
            llm_retries_refused: self.breaker.retries_refused.with_label_values(label),
            first_words: self.people.first_words.with_label_values(label),
            answers: self.people.answers.with_label_values(label),
            prompts_loaded: reloads("loaded"),
            prompts_failed: reloads("failed"),
            prompts_stale: self.prompts.stale.with_label_values(label),
            turn_seconds: self.turn_seconds.with_label_values(label),
            contexts: self.redis.contexts.with_label_values(label),
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
    /// What there is to do for each agent.
    pub(crate) fn queues(&self, queues: &[(story::Agent, bus::Queue)]) {
        for (agent, queue) in queues {
            self.all.fleet.queue(*agent, queue);
        }
    }

    /// Until they are counted again nothing is told of any queue.
    pub(crate) fn forget_queues(&self) {
        self.all.fleet.forget();
    }

    /// Whether a model is left alone since it fails.
    pub(crate) fn is_open(&self, model: &str, is_open: bool) {
        self.all.breaker.is_open(self.agent, model, is_open);
    }

    /// Readers see the first words of the answer to an action.
    pub(crate) fn first_words(&self, action: &Event) {
        self.first_words.observe(seconds_since(action));
    }

    /// An action has its answer, or a word why it has none.
    pub(crate) fn answered(&self, action: &Event) {
        self.answers.observe(seconds_since(action));
    }

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

    /// A recording of so many bytes was given to Redis with an end that is there.
    pub(crate) fn recorded(&self, bytes: usize) {
        let agent = self.agent.as_str();
        let kept = &[agent, "kept"];
        self.all.recordings.with_label_values(kept).inc();
        let all = self.all.recording_bytes.with_label_values(&[agent]);
        all.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// `result`: `too_large`, `failed`.
    pub(crate) fn unrecorded(&self, result: &str) {
        let labels = &[self.agent.as_str(), result];
        self.all.recordings.with_label_values(labels).inc();
    }
}

fn counter(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

/// By the clocks of whoever took it and of this worker.
fn seconds_since(action: &Event) -> f64 {
    let since = jiff::Timestamp::now().duration_since(action.at);
    since.as_secs_f64().max(0.0)
}

/// By agent. The model's longest call takes 90 s, and a person may have to wait for several.
fn seconds(registry: &Registry, name: &str, help: &str) -> HistogramVec {
    let buckets = vec![
        0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 180.0, 600.0,
    ];
    let options = HistogramOpts::new(name, help).buckets(buckets);
    register(registry, HistogramVec::new(options, &["agent"]))
}

/// Adds which release runs.
pub fn release(registry: &Registry) {
    let options = Opts::new(
        "storyfleet_build_info",
        "1; the label tells which release runs.",
    );
    let made = register(registry, IntGaugeVec::new(options, &["version"]));
    made.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
}

/// Adds a metric to a registry.
///
/// # Panics
/// When its name is there already or malformed: names are constants, and a test of each program makes them all.
pub fn register<M>(registry: &Registry, made: prometheus::Result<M>) -> M
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
        let took = |ms| Some(Duration::from_millis(ms));
        for (failed, call) in [
            (Some(llm::Class::Rate), None),
            (None, took(150)),
            (Some(llm::Class::Auth), took(50)),
        ] {
            let usage = llm::Usage {
                completion: 7,
                ..llm::Usage::default()
            };
            metrics.model.tried(
                story::Agent::Narrator,
                llm::Ended {
                    sent: true,
                    failed,
                    usage,
                    cost: Some(1_500_000),
                    call,
                },
            );
        }
        metrics.model.tried(
            story::Agent::Narrator,
            llm::Ended {
                sent: false,
                failed: Some(llm::Class::Cancelled),
                usage: llm::Usage::default(),
                cost: None,
                call: took(0),
            },
        );
        metrics
            .model
            .structured(story::Agent::Narrator, llm::Structured::Repaired);
        let text = metrics.encode().unwrap();
        for line in [
            r#"storyfleet_structured_total{agent="narrator",result="repaired"} 1"#,
            r#"storyfleet_structured_total{agent="narrator",result="failed"} 0"#,
            r#"storyfleet_events_total{agent="narrator",outcome="answered"} 1"#,
            r#"storyfleet_commits_total{agent="narrator",result="fenced"} 1"#,
            r#"storyfleet_llm_tokens_total{agent="narrator",kind="out"} 21"#,
            r#"storyfleet_llm_tries_total{agent="narrator",result="rate"} 1"#,
            r#"storyfleet_llm_tries_total{agent="narrator",result="ok"} 1"#,
            r#"storyfleet_llm_tries_total{agent="narrator",result="cancelled"} 0"#,
            r#"storyfleet_events_total{agent="narrator",outcome="buried"} 0"#,
            r#"storyfleet_llm_calls_total{agent="narrator",result="auth"} 1"#,
            r#"storyfleet_llm_calls_total{agent="narrator",result="cancelled"} 1"#,
            r#"storyfleet_llm_seconds_sum{agent="narrator"} 0.2"#,
            r#"storyfleet_llm_seconds_count{agent="narrator"} 3"#,
            r#"storyfleet_llm_cost_total{agent="narrator"} 4.5"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
