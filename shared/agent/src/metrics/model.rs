//! Of calls to the model: how they end, how long they take, and the tokens that are paid for.

use llm::{Ended, Structured};
use prometheus::{CounterVec, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{counter, register, seconds};

#[derive(Debug, Clone)]
pub(super) struct Model {
    tries: IntCounterVec,
    calls: IntCounterVec,
    seconds: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    structured: IntCounterVec,
    pub(super) paid_twice: IntCounterVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) waits: HistogramVec,
}

impl Model {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            tries: counter(
                registry,
                "storyfleet_llm_tries_total",
                "Requests to the model by how they ended: ok, or the class of their failure.",
                &["agent", "result"],
            ),
            calls: counter(
                registry,
                "storyfleet_llm_calls_total",
                "Model calls, retries included, by how they ended: ok, or the class of the last failure.",
                &["agent", "result"],
            ),
            seconds: seconds(
                registry,
                "storyfleet_llm_seconds",
                "Model calls from start to end, failed ones and retries included.",
            ),
            tokens: counter(
                registry,
                "storyfleet_llm_tokens_total",
                "Tokens by kind, those of failed requests too where the model told.",
                &["agent", "kind"],
            ),
            cost: register(
                registry,
                CounterVec::new(
                    Opts::new(
                        "storyfleet_llm_cost_total",
                        "What the tokens cost, in the currency of the prices, where the model has one.",
                    ),
                    &["agent"],
                ),
            ),
            structured: structured(registry),
            paid_twice: counter(
                registry,
                "storyfleet_llm_paid_twice_total",
                "Answers of turns that were begun again, which an earlier delivery had paid for otherwise.",
                &["agent"],
            ),
            waiting: register(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "storyfleet_llm_waiting",
                        "Calls that wait for their turn within the model's limits.",
                    ),
                    &["agent"],
                ),
            ),
            waits: seconds(
                registry,
                "storyfleet_llm_wait_seconds",
                "Waits of requests for their turn, where the model has limits.",
            ),
        }
    }

    /// As in `Metrics::begin`.
    pub(super) fn begin(&self, agent: story::Agent) {
        let agent = agent.as_str();
        let classes = llm::TABLE.iter().map(|row| row.name);
        for result in std::iter::once("ok").chain(classes) {
            self.tries.with_label_values(&[agent, result]);
            self.calls.with_label_values(&[agent, result]);
        }
        for kind in ["in", "cached", "out"] {
            self.tokens.with_label_values(&[agent, kind]);
        }
        for ended in [Structured::Valid, Structured::Repaired, Structured::Failed] {
            self.structured.with_label_values(&[agent, word(ended)]);
        }
        self.seconds.with_label_values(&[agent]);
        self.cost.with_label_values(&[agent]);
    }

    pub(super) fn structured(&self, agent: story::Agent, ended: Structured) {
        let labels = &[agent.as_str(), word(ended)];
        self.structured.with_label_values(labels).inc();
    }

    pub(super) fn tried(&self, agent: story::Agent, ended: Ended) {
        // The model's name for itself is the provider's to choose: as a label it could make series without end.
        let agent = agent.as_str();
        let labels = &[agent, ended.failed.map_or("ok", llm::Class::as_str)];
        if ended.sent {
            self.tries.with_label_values(labels).inc();
        }
        if let Some(took) = ended.call {
            self.calls.with_label_values(labels).inc();
            let seconds = self.seconds.with_label_values(&[agent]);
            seconds.observe(took.as_secs_f64());
        }
        let kinds = [
            ("in", ended.usage.prompt),
            ("cached", ended.usage.cached),
            ("out", ended.usage.completion),
        ];
        if let Some(cost) = ended.cost {
            let all = self.cost.with_label_values(&[agent]);
            all.inc_by(llm::Price::in_units(cost));
        }
        for (kind, tokens) in kinds {
            let counted = self.tokens.with_label_values(&[agent, kind]);
            counted.inc_by(tokens.into());
        }
    }
}

fn structured(registry: &Registry) -> IntCounterVec {
    counter(
        registry,
        "storyfleet_structured_total",
        "Answers that were to be data: valid at once, repaired by another call, failed.",
        &["agent", "result"],
    )
}

fn word(structured: Structured) -> &'static str {
    match structured {
        Structured::Valid => "valid",
        Structured::Repaired => "repaired",
        Structured::Failed => "failed",
    }
}
