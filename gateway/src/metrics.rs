//! What operators see of a node, by Prometheus conventions.

mod encryption;

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use agent::{register, release};
use bus::{Published, Replicated};

use crate::outcome::status;
use crate::wire::Close;
use encryption::Encryption;

/// How tokens and tickets are taken: the classes of `Refusal` and `Unauthorized`.
const AUTH: [&str; 22] = [
    "ok",
    "missing",
    "twice",
    "in_query",
    "origin",
    "too_large",
    "malformed",
    "algorithm",
    "key",
    "unavailable",
    "signature",
    "expired",
    "not_yet",
    "audience",
    "issuer",
    "claims",
    "revoked",
    "ticket",
    "not_here",
    "unready",
    "rate",
    "redis",
];

/// Shared by all parts of a node; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: IntGaugeVec,
    fanout: Histogram,
    joins: IntCounterVec,
    publishes: IntCounterVec,
    lagged: IntCounter,
    closes: IntCounterVec,
    auth: IntCounterVec,
    redis: Redis,
    presence: IntCounterVec,
    pub(crate) tls: Encryption,
    pub(crate) refused: Refusals,
}

/// What was refused for a limit, which is named as its option is.
#[derive(Debug, Clone)]
pub(crate) struct Refusals(IntCounterVec);

/// What Redis takes, and whether it is there.
#[derive(Debug, Clone)]
struct Redis {
    seconds: Histogram,
    is_up: IntGauge,
    unreplicated: IntCounter,
}

/// How a reader has come up to what is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Without a cursor, from the last events on.
    Tail,
    /// From a cursor, out of this node's memory.
    Memory,
    /// From a cursor, out of the log.
    Log,
    /// From a cursor of another history.
    Gap,
}

/// A connection of a transport; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Connected(IntGauge);

impl Metrics {
    /// # Panics
    /// Never: the names below are distinct and well-formed, which a test shows.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        release(&registry);
        let lagged = IntCounter::new(
            "storyfleet_gateway_lagged_total",
            "Times that a reader's queue was full, and what they missed was merged.",
        );
        let fanout = HistogramOpts::new(
            "storyfleet_gateway_fanout_seconds",
            "From the arrival of something in a story to its write to a reader who was there: what is given to those who come back does not count.",
        )
        .buckets(vec![
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0,
        ]);
        Self {
            redis: Redis::new(&registry),
            connections: connections(&registry),
            fanout: register(&registry, Histogram::with_opts(fanout)),
            joins: joins(&registry),
            publishes: publishes(&registry),
            lagged: register(&registry, lagged),
            closes: closes(&registry),
            auth: auth(&registry),
            presence: presence(&registry),
            tls: Encryption::new(&registry),
            refused: Refusals(refused(&registry)),
            registry,
        }
    }

    /// `transport`: `websocket`, `sse`.
    pub(crate) fn connected(&self, transport: &str) -> Connected {
        let gauge = self.connections.with_label_values(&[transport]);
        gauge.inc();
        Connected(gauge)
    }

    pub(crate) fn written(&self, after: Duration) {
        self.fanout.observe(after.as_secs_f64());
    }

    pub(crate) fn joined(&self, how: Joined) {
        let kind = match how {
            Joined::Tail => "tail",
            Joined::Memory => "memory",
            Joined::Log => "log",
            Joined::Gap => "gap",
        };
        self.joins.with_label_values(&[kind]).inc();
    }

    pub(crate) fn lagged(&self) {
        self.lagged.inc();
    }

    pub(crate) fn closed(&self, close: Close) {
        let code = close.code().to_string();
        self.closes.with_label_values(&[&code]).inc();
    }

    pub(crate) fn auth(&self, result: &str) {
        debug_assert!(AUTH.contains(&result), "{result} is not among AUTH");
        self.auth.with_label_values(&[result]).inc();
    }

    /// What became of something that somebody did.
    pub(crate) fn published(&self, published: Result<&(Published, Replicated), &bus::Error>) {
        let result = match published {
            Ok((published, _)) => status(*published),
            Err(
                bus::Error::NotPublishable
                | bus::Error::NoStory(_)
                | bus::Error::LaneFull(_)
                | bus::Error::TooLarge(_),
            ) => "refused",
            Err(_) => "failed",
        };
        self.publishes.with_label_values(&[result]).inc();
    }

    /// So many writes more that are not known to be on as many replicas as were waited for.
    pub(crate) fn unreplicated(&self, writes: u64) {
        self.redis.unreplicated.inc_by(writes);
    }

    /// What the slowest server with a shard took to answer; `None` when one did not.
    pub(crate) fn redis(&self, took: Option<Duration>) {
        self.redis.is_up.set(took.is_some().into());
        if let Some(took) = took {
            self.redis.seconds.observe(took.as_secs_f64());
        }
    }

    /// It answered, and takes nothing new.
    pub(crate) fn redis_refuses(&self) {
        self.redis.is_up.set(0);
    }

    /// `kind`: `write`, `read`, `told`.
    pub(crate) fn presence(&self, kind: &str) {
        self.presence.with_label_values(&[kind]).inc();
    }

    /// The text format that Prometheus reads.
    pub(crate) fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Refusals {
    pub(crate) fn count(&self, reason: &str) {
        self.0.with_label_values(&[reason]).inc();
    }
}

impl Redis {
    fn new(registry: &Registry) -> Self {
        let seconds = HistogramOpts::new(
            "storyfleet_gateway_redis_seconds",
            "What the slowest server with a shard takes to answer, asked every 5 s while all answer.",
        )
        .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0]);
        let is_up = IntGauge::new(
            "storyfleet_gateway_redis_up",
            "1 when each server with a shard answered the last look, every 5 s, and takes writes; else 0.",
        );
        let unreplicated = IntCounter::new(
            "storyfleet_gateway_unreplicated_total",
            "Writes that are not known to have been on as many replicas in time as were waited for.",
        );
        Self {
            seconds: register(registry, Histogram::with_opts(seconds)),
            is_up: register(registry, is_up),
            unreplicated: register(registry, unreplicated),
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn connections(registry: &Registry) -> IntGaugeVec {
    let options = Opts::new(
        "storyfleet_gateway_connections",
        "Open connections that read stories.",
    );
    let made = register(registry, IntGaugeVec::new(options, &["transport"]));
    for transport in ["websocket", "sse"] {
        made.with_label_values(&[transport]);
    }
    made
}

fn joins(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_joins_total",
        "Readers who came up to what is live: from the tail, or from a cursor out of memory, the log, or after a gap.",
    );
    let kinds = ["tail", "memory", "log", "gap"];
    counter(registry, options, "kind", &kinds)
}

fn publishes(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_publishes_total",
        "What people did by what became of it: logged, held, duplicate; refused, which is theirs to mend; failed.",
    );
    let results = ["logged", "held", "duplicate", "refused", "failed"];
    counter(registry, options, "result", &results)
}

fn closes(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_closes_total",
        "Sockets that the node closed, by code; streams that were too slow as 1013.",
    );
    let codes = Close::ALL.map(|close| close.code().to_string());
    let codes = codes.each_ref().map(String::as_str);
    counter(registry, options, "code", &codes)
}

fn auth(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_auth_total",
        "Tokens and tickets by how they were taken: ok, or why not.",
    );
    counter(registry, options, "result", &AUTH)
}

fn presence(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_presence_total",
        "Times that it was written to Redis who is in a story here, that it was read who is anywhere, and that readers were told.",
    );
    counter(registry, options, "kind", &["write", "read", "told"])
}

fn refused(registry: &Registry) -> IntCounterVec {
    let options = Opts::new(
        "storyfleet_gateway_refused_total",
        "What was refused for a limit: per_address, connections, per_person, requests, publishes, failures.",
    );
    let reasons = [
        "per_address",
        "connections",
        "per_person",
        "requests",
        "publishes",
        "failures",
    ];
    counter(registry, options, "reason", &reasons)
}

/// Whatever can be counted is there from the start, as 0: of a series that begins with its first failure that one is not seen to
/// have happened.
fn counter(registry: &Registry, options: Opts, label: &str, words: &[&str]) -> IntCounterVec {
    let made = register(registry, IntCounterVec::new(options, &[label]));
    for word in words {
        made.with_label_values(&[word]);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_counts_is_in_the_text() {
        let metrics = Metrics::new();
        let connected = metrics.connected("sse");
        drop(metrics.connected("websocket"));
        metrics.written(Duration::from_millis(2));
        metrics.joined(Joined::Memory);
        metrics.lagged();
        metrics.closed(Close::Slow);
        metrics.auth("expired");
        metrics.published(Ok(&(Published::Held, Replicated::Unasked)));
        metrics.published(Err(&bus::Error::TooLarge(70_000)));
        metrics.published(Err(&bus::Error::Data("not ours".to_owned())));
        metrics.redis(Some(Duration::from_millis(1)));
        metrics.redis(None);
        metrics.presence("told");
        // Where there is no TLS there is no certificate.
        let certificate = "storyfleet_gateway_tls_certificate_not_after_timestamp_seconds";
        assert!(!metrics.encode().unwrap().contains(certificate));
        metrics.tls.certificate(1_893_456_000);
        metrics.tls.renewed(false);
        metrics.tls.handshake("late");
        metrics.refused.count("failures");
        let text = metrics.encode().unwrap();
        for line in [
            r#"storyfleet_gateway_connections{transport="sse"} 1"#,
            r#"storyfleet_gateway_connections{transport="websocket"} 0"#,
            "storyfleet_gateway_fanout_seconds_count 1",
            r#"storyfleet_gateway_joins_total{kind="memory"} 1"#,
            "storyfleet_gateway_lagged_total 1",
            r#"storyfleet_gateway_closes_total{code="1013"} 1"#,
            r#"storyfleet_gateway_auth_total{result="expired"} 1"#,
            r#"storyfleet_gateway_auth_total{result="revoked"} 0"#,
            r#"storyfleet_gateway_publishes_total{result="held"} 1"#,
            r#"storyfleet_gateway_publishes_total{result="refused"} 1"#,
            r#"storyfleet_gateway_publishes_total{result="failed"} 1"#,
            "storyfleet_gateway_redis_seconds_count 1",
            "storyfleet_gateway_redis_up 0",
            r#"storyfleet_gateway_presence_total{kind="told"} 1"#,
            "storyfleet_gateway_tls_certificate_not_after_timestamp_seconds 1893456000",
            r#"storyfleet_gateway_tls_renewals_total{result="failed"} 1"#,
            r#"storyfleet_gateway_tls_handshakes_total{result="late"} 1"#,
            r#"storyfleet_gateway_refused_total{reason="failures"} 1"#,
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        drop(connected);
        assert!(metrics.encode().unwrap().contains(r#"transport="sse"} 0"#));
    }
}
