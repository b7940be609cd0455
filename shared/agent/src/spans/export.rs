//! Spans on their way to a collector, over OTLP: from a thread of its own and a bounded queue, so that a collector that is slow
//! or away costs spans and nothing else.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{self, SdkTracerProvider, SpanData};
use story::Traceparent;
use tracing::{Level, Span, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;

use super::{CONTENT, TARGET};

/// How long the last spans may take at the end.
const FLUSH: Duration = Duration::from_secs(2);

const SERVICE: &str = "service.name";

/// Where spans go.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Traces")]
#[group(skip)]
pub struct Traces {
    /// Where an OpenTelemetry collector takes traces, over OTLP as http/protobuf, such as http://127.0.0.1:4318; without it
    /// none are made. The other variables of OpenTelemetry count too: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    /// OTEL_TRACES_SAMPLER with _ARG, OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_BSP_*
    // A password in it is nobody's to read.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        hide_env_values = true,
        value_name = "URL"
    )]
    otlp_endpoint: Option<String>,
    /// The same for traces alone, as it is: nothing is added to its path
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        hide_env_values = true,
        value_name = "URL"
    )]
    otlp_traces_endpoint: Option<String>,
    /// Have what models are asked and what they answer in the traces, up to 16 KiB of each: what people write is in it
    #[arg(long, env = "STORYFLEET_TRACE_CONTENT", value_parser = clap::builder::BoolishValueParser::new())]
    trace_content: bool,
}

/// Sends what is left when it is dropped.
#[derive(Debug, Default)]
#[must_use = "spans are sent for as long as it lives"]
pub struct Exporting(Option<SdkTracerProvider>);

impl Traces {
    fn endpoint(&self) -> Option<String> {
        let base = self.otlp_endpoint.as_deref();
        let whole = base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        self.otlp_traces_endpoint.clone().or(whole)
    }
}

/// What takes the spans of this process, of the program `name`; none without an endpoint.
///
/// # Errors
/// When the endpoint or another variable cannot be used.
pub(crate) fn layer(
    traces: &Traces,
    name: &'static str,
) -> anyhow::Result<(Option<impl Layer<Registry>>, Exporting)> {
    let Some(endpoint) = traces.endpoint() else {
        return Ok((None, Exporting(None)));
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .build()
        .map_err(|error| anyhow::anyhow!("traces cannot be exported: {error}"))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Told::new(exporter))
        .with_resource(resource(name))
        .build();
    let mut taken = Targets::new().with_target(TARGET, Level::INFO);
    if traces.trace_content {
        taken = taken.with_target(CONTENT, Level::INFO);
    }
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("storyfleet"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(taken);
    Ok((Some(layer), Exporting(Some(provider))))
}

/// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count before the program's name.
fn resource(name: &'static str) -> Resource {
    let given = Resource::builder().build();
    let is_named = given
        .get(&SERVICE.into())
        .is_some_and(|service| !service.as_str().starts_with("unknown_service"));
    let resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    match is_named {
        true => resource.build(),
        false => resource.with_service_name(name).build(),
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            // What is lost of it is told by who exports.
            let _lost = provider.shutdown_with_timeout(FLUSH);
        }
    }
}

/// Says in the log when the collector is away, and when it is back, and not each time.
#[derive(Debug)]
struct Told {
    exporter: SpanExporter,
    is_away: AtomicBool,
}

impl Told {
    fn new(exporter: SpanExporter) -> Self {
        Self {
            exporter,
            is_away: AtomicBool::new(false),
        }
    }
}

impl trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        match (&sent, self.is_away.swap(sent.is_err(), Relaxed)) {
            (Err(error), false) => {
                warn!(%error, spans, "the collector takes no traces: spans are lost until it does");
            }
            (Ok(()), true) => info!("the collector takes traces again"),
            _ => {}
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Makes `span` a child of what an event carries.
pub(crate) fn adopt(span: &Span, parent: &Traceparent) {
    let carrier = [("traceparent".to_owned(), parent.as_str().to_owned())];
    let carrier: std::collections::HashMap<_, _> = carrier.into();
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    // It fails where nobody takes the span.
    let _nobody = span.set_parent(parent);
}

/// What an event carries of `span`.
pub(crate) fn carried(span: &Span) -> Option<Traceparent> {
    let context = span.context();
    let here = context.span().span_context().clone();
    let text = format!(
        "00-{}-{}-{:02x}",
        here.trace_id(),
        here.span_id(),
        here.trace_flags().to_u8()
    );
    text.parse().ok().filter(|_| here.is_valid())
}

/// A list of one word.
pub(crate) fn list(span: &Span, name: &'static str, word: &'static str) {
    span.set_attribute(
        name,
        Value::Array(Array::String(vec![StringValue::from(word)])),
    );
}
