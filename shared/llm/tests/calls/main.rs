//! Calls over real HTTP, against a provider that is scripted to the byte.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod chains;
mod faults;
mod gates;
mod paid;
mod provider;
mod secrets;
mod streams;
mod tapes;
mod unary;

use std::time::Duration;

use llm::{Client, Deadlines, Labels, Message, Request, Settings};

const HI: &str = r#"{"model":"m-1","choices":[{"delta":{"content":"Hi "}}]}"#;
const YOU: &str = r#"{"model":"m-1","choices":[{"delta":{"content":"you"}}]}"#;
const STOP: &str = r#"{"model":"m-1","choices":[{"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str =
    r#"{"model":"m-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
const DONE: &str = "[DONE]";

/// Settings whose deadlines a test can afford to meet.
fn settings(url: &str) -> Settings {
    Settings {
        deadlines: Deadlines {
            connect: Duration::from_millis(500),
            first_token: Duration::from_millis(300),
            stall: Duration::from_millis(300),
            // For one more try: the first pause is 375 ms at most, and the first two are 375 ms at least.
            patience: Duration::from_millis(376),
            total: Duration::from_secs(8),
        },
        max_tries: 2,
        ..Settings::new(url)
    }
}

fn client(url: &str) -> Client {
    Client::new(settings(url)).unwrap()
}

fn request() -> Request {
    Request {
        model: "m".into(),
        messages: vec![Message::user("I open the door")],
        labels: Labels {
            agent: "narrator".into(),
            event: "e1".into(),
            traceparent: None,
        },
        ..Request::default()
    }
}

/// For what must happen, but is not promised to be quick.
async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("this should have happened by now")
}
