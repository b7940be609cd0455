//! A server of one test's own, and what is heard from it.

use std::time::Duration;

use mock_llm::Options;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a body must be silent to count as hung. A slow machine only makes it more silent.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct Mock {
    pub(crate) base: String,
    pub(crate) client: Client,
    pub(crate) shutdown: DropGuard,
    pub(crate) serving: TaskTracker,
}

/// A response, read until it ended or fell silent.
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Reset,
    Hung,
}

impl Mock {
    pub(crate) async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (shutdown, serving) = (CancellationToken::new(), TaskTracker::new());
        serving.spawn(mock_llm::serve(listener, options, shutdown.clone()));
        serving.close();
        Self {
            base,
            client: Client::builder().no_proxy().build().unwrap(),
            shutdown: shutdown.drop_guard(),
            serving,
        }
    }

    pub(crate) async fn plain() -> Self {
        Self::start(Options::default()).await
    }

    pub(crate) async fn scripted(yaml: &str) -> Self {
        let scenario = yaml.parse().unwrap();
        Self::start(Options {
            scenario,
            ..Options::default()
        })
        .await
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base)).json(body)
    }

    pub(crate) fn chat(&self, body: &Value) -> RequestBuilder {
        self.post("/v1/chat/completions", body)
    }

    /// The whole answer to `body`, which must succeed.
    pub(crate) async fn answer(&self, body: &Value) -> Value {
        let response = self.chat(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.base));
        response.send().await.unwrap().json().await.unwrap()
    }

    /// Polls the report of calls until it is as it should be.
    pub(crate) async fn calls(&self, is: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                let report = self.get("/admin/calls").await;
                if is(&report["calls"]) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let report = tokio::time::timeout(PATIENCE, reached).await;
        report.expect("the calls never came to that")
    }
}

impl Heard {
    /// Reads to the end, and no longer than the silence that `hangs` expects after a body that it recognises.
    pub(crate) async fn from(mut response: Response, hangs: impl Fn(&[u8]) -> bool) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let end = loop {
            let silence = if hangs(&body) { SILENCE } else { PATIENCE };
            match tokio::time::timeout(silence, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => break End::Clean,
                Ok(Err(error)) => {
                    assert!(is_reset(&error), "cut, but not reset: {error:?}");
                    break End::Reset;
                }
                Err(_) => break End::Hung,
            }
        };
        Self {
            status,
            headers,
            body,
            end,
        }
    }

    pub(crate) async fn whole(response: Response) -> Self {
        Self::from(response, |_| false).await
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// The frames that are JSON.
    pub(crate) fn frames(&self) -> Vec<Value> {
        frames(&self.body)
    }

    pub(crate) fn text(&self) -> String {
        text(&self.frames())
    }

    pub(crate) fn finish(&self) -> Option<String> {
        let frames = self.frames();
        let mut reasons = frames
            .iter()
            .map(|frame| &frame["choices"][0]["finish_reason"]);
        Some(reasons.find_map(Value::as_str)?.to_owned())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.body.ends_with(b"data: [DONE]\n\n")
    }
}

pub(crate) fn frames(body: &[u8]) -> Vec<Value> {
    let lines = body.split(|byte| *byte == b'\n');
    let data = lines.filter_map(|line| line.strip_prefix(b"data: "));
    data.filter_map(|data| serde_json::from_slice(data).ok())
        .collect()
}

pub(crate) fn text(frames: &[Value]) -> String {
    let deltas = frames
        .iter()
        .map(|frame| &frame["choices"][0]["delta"]["content"]);
    deltas.filter_map(Value::as_str).collect()
}

/// A chat of one message.
pub(crate) fn asking(text: &str) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed.
pub(crate) fn streaming(text: &str) -> Value {
    let mut body = asking(text);
    body["stream"] = true.into();
    body["stream_options"] = json!({"include_usage": true});
    body
}

pub(crate) fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
    })
}
