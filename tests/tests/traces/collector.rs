//! A collector of OpenTelemetry: takes spans over OTLP as http/protobuf, and tells of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A span as it came, in words.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where it has none.
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// All that its events say.
    pub(crate) events: String,
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<Seen>>>);

pub(crate) struct Collector {
    spans: Spans,
    address: SocketAddr,
    /// Ends with it.
    _serving: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, spans) = (listener.local_addr()?, Spans::default());
        let pages = Router::new()
            .route("/v1/traces", post(take))
            .with_state(spans.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            axum::serve(listener, pages).await.expect("it is served");
        });
        Ok(Self {
            spans,
            address,
            _serving: serving,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.spans.all().clone()
    }
}

impl Spans {
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(State(spans): State<Spans>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return StatusCode::BAD_REQUEST;
    };
    for group in request.resource_spans {
        let resource = group.resource.unwrap_or_default();
        let service = words(&resource.attributes)
            .remove("service.name")
            .unwrap_or_default();
        let all = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.all().extend(all.map(|span| seen(&service, &span)));
    }
    StatusCode::OK
}

fn seen(service: &str, span: &Span) -> Seen {
    let events = span.events.iter();
    let events = events.map(|event| format!("{} {:?}\n", event.name, words(&event.attributes)));
    Seen {
        service: service.to_owned(),
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        attributes: words(&span.attributes),
        events: events.collect(),
    }
}

fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let each = attributes.iter();
    let each = each.map(|one| (one.key.clone(), value(one.value.as_ref())));
    each.collect()
}

fn value(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(is)) => is.to_string(),
        Some(any_value::Value::ArrayValue(list)) => {
            let values: Vec<_> = list
                .values
                .iter()
                .map(|one| self::value(Some(one)))
                .collect();
            format!("[{}]", values.join(","))
        }
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes all");
        text
    })
}
