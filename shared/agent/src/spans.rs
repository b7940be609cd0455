//! The spans of an action's way: published, answered turn by turn, with what each asks of Redis and of the model, and committed.
//!
//! They are spans of `tracing` under a target of their own, which logs leave out and which costs nothing while nobody takes
//! it. A program that is built with the feature `otel` gives them to a collector ([`Traces`]), by the names of OpenTelemetry's
//! conventions for messaging and generative AI. What people and models write is in none of them; where it is asked for, it
//! is in an event of the call's span.

mod chat;
#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod none;

use bus::Delivery;
use story::{Event, Traceparent};
use tracing::field::Empty;
use tracing::{Span, info_span};

pub use self::chat::Chat;
#[cfg(feature = "otel")]
pub use self::export::{Exporting, Traces};
#[cfg(feature = "otel")]
pub(crate) use self::export::{adopt, carried, layer, list};
#[cfg(not(feature = "otel"))]
pub use self::none::{Exporting, Traces};
#[cfg(not(feature = "otel"))]
pub(crate) use self::none::{adopt, carried, layer, list};

/// Of all spans here.
pub const TARGET: &str = "storyfleet::spans";
/// Of the events that hold what people and models wrote.
pub const CONTENT: &str = "storyfleet::content";

/// Of publishing `event`, which carries it on: what answers the event belongs to it. A parent that the event has is kept.
pub fn publish(event: &mut Event) -> Span {
    let span = info_span!(
        target: TARGET,
        "publish",
        "otel.kind" = "producer",
        "messaging.system" = "redis",
        "messaging.operation.type" = "send",
        "messaging.operation.name" = "publish",
        "messaging.destination.name" = "log",
        "messaging.message.id" = event.id.as_str(),
        "storyfleet.story" = event.story.as_str(),
        "storyfleet.event.type" = event.kind(),
        "error.type" = Empty,
        "otel.status_code" = Empty,
    );
    if let Some(parent) = &event.trace {
        adopt(&span, parent);
    }
    if let Some(trace) = carried(&span) {
        event.trace = Some(trace);
    }
    span
}

/// Of one delivery, from its context to its commit: a child of what its event carries.
pub(crate) fn turn(delivery: &Delivery) -> Span {
    let work = delivery.work.as_ref().ok();
    let agent = delivery.agent.as_str();
    let span = info_span!(
        target: TARGET,
        "process",
        "otel.name" = format!("process {agent}"),
        "otel.kind" = "consumer",
        "messaging.system" = "redis",
        "messaging.operation.type" = "process",
        "messaging.operation.name" = "process",
        "messaging.destination.name" = format!("work:{agent}"),
        "messaging.consumer.group.name" = "fleet",
        "messaging.message.id" = work.map(|work| work.id.as_str()),
        "storyfleet.agent" = agent,
        "storyfleet.story" = work.map(|work| work.story.as_str()),
        "storyfleet.event.type" = work.map(|work| work.event.kind()),
        "storyfleet.deliveries" = delivery.deliveries,
        "storyfleet.outcome" = Empty,
        "error.type" = Empty,
        "otel.status_code" = Empty,
    );
    if let Some(parent) = work.and_then(|work| work.event.trace.as_ref()) {
        adopt(&span, parent);
    }
    span
}

/// Of what is asked of Redis, until it answers.
pub(crate) fn redis(operation: &'static str) -> Span {
    info_span!(
        target: TARGET,
        "redis",
        "otel.name" = operation,
        "otel.kind" = "client",
        "db.system.name" = "redis",
        "db.operation.name" = operation,
    )
}

/// Marks a span as failed for this reason, a word of ours: what errors say may quote people.
pub fn failed(span: &Span, class: &str) {
    span.record("error.type", class);
    span.record("otel.status_code", "ERROR");
}

/// What an event that is made now carries, so that what answers it hangs below this turn. `None` where nobody takes spans, or
/// not those of this trace.
#[must_use]
pub fn current() -> Option<Traceparent> {
    carried(&Span::current())
}
