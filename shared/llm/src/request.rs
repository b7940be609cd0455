//! What is asked: a request and its canonical JSON body. Equal requests give equal bytes, so that a
//! hash of the body names the request.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Class, Error};

/// One chat request. Absent options are left out of the body, so that the provider's defaults hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    pub model: String,
    pub messages: Vec<Message>,
    pub temperature: Option<f32>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    /// The answer must be JSON of this shape.
    pub schema: Option<Schema>,
    /// Sent as headers, not in the body.
    pub labels: Labels,
    /// That the prompt has at most, where somebody counted them: for who gives leave to send it, not in the body.
    pub tokens: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    role: Role,
    content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    System,
    User,
}

/// A named JSON Schema, kept as written: models fill properties in the order of the schema.
#[derive(Debug, Clone)]
pub struct Schema {
    name: String,
    json: Box<RawValue>,
}

/// Who asks and why: for the provider's logs and the mock's scripts. Empty labels are not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    pub agent: String,
    pub event: String,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Message {
    fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }

    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    pub fn text(&self) -> &str {
        &self.content
    }

    /// `system` or `user`.
    pub fn role(&self) -> &'static str {
        match self.role {
            Role::System => "system",
            Role::User => "user",
        }
    }

    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }
}

impl Schema {
    /// `json` is the schema's text.
    pub fn new(name: impl Into<String>, json: &str) -> Result<Self, Error> {
        let name = name.into();
        match serde_json::from_str(json) {
            Ok(json) => Ok(Self { name, json }),
            Err(error) => Err(Error::new(
                Class::Request,
                format!("schema `{name}` is not JSON: {error}"),
            )),
        }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        self.json.get()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.json.get() == other.json.get()
    }
}

impl Request {
    /// The JSON body of the streamed request, in one fixed order of fields.
    pub fn body(&self) -> Box<RawValue> {
        self.body_for(&self.model, self.temperature, self.max_tokens)
    }

    /// The same, as it is asked of this model.
    pub(crate) fn body_for(
        &self,
        model: &str,
        temperature: Option<f32>,
        max_tokens: Option<u32>,
    ) -> Box<RawValue> {
        let body = Body {
            model,
            temperature,
            max_tokens,
            ..Body::of(self)
        };
        serde_json::value::to_raw_value(&body)
            .expect("strings, numbers and checked JSON always serialise")
    }

    /// All that the model reads: the messages, and the schema of the answer.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let schema = self.schema.iter().map(|schema| schema.json.get());
        self.messages.iter().map(Message::text).chain(schema)
    }
}

impl Labels {
    pub(crate) fn headers(&self) -> HeaderMap {
        const AGENT: HeaderName = HeaderName::from_static("x-storyfleet-agent");
        const EVENT: HeaderName = HeaderName::from_static("x-storyfleet-event");
        const TRACE: HeaderName = HeaderName::from_static("traceparent");
        let mut headers = HeaderMap::with_capacity(4);
        let trace = self.traceparent.as_deref().unwrap_or_default();
        for (name, value) in [
            (AGENT, self.agent.as_str()),
            (EVENT, &self.event),
            (TRACE, trace),
        ] {
            if !value.is_empty() {
                headers.insert(name, visible_ascii(value));
            }
        }
        headers
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    stream: bool,
    stream_options: StreamOptions,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ResponseFormat<'a> {
    JsonSchema { json_schema: JsonSchema<'a> },
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    strict: bool,
    schema: &'a RawValue,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

impl<'a> Body<'a> {
    fn of(request: &'a Request) -> Self {
        Self {
            model: &request.model,
            messages: &request.messages,
            temperature: request.temperature,
            max_tokens: request.max_tokens,
            stop: &request.stop,
            response_format: request
                .schema
                .as_ref()
                .map(|schema| ResponseFormat::JsonSchema {
                    json_schema: JsonSchema {
                        name: &schema.name,
                        strict: true,
                        schema: &schema.json,
                    },
                }),
            stream: true,
            stream_options: StreamOptions {
                include_usage: true,
            },
        }
    }
}

/// Percent-encodes what is not visible ASCII, and `%` itself: ids are any string, headers are not.
fn visible_ascii(text: &str) -> HeaderValue {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(safe).expect("visible ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            model: "m".into(),
            messages: vec![
                Message::system("You narrate."),
                Message::user("I draw \"it\"\n"),
            ],
            ..Request::default()
        }
    }

    #[test]
    fn absent_options_are_absent_from_the_body() {
        insta::assert_snapshot!(request().body().get(), @r#"{"model":"m","messages":[{"role":"system","content":"You narrate."},{"role":"user","content":"I draw \"it\"\n"}],"stream":true,"stream_options":{"include_usage":true}}"#);
    }

    #[test]
    fn every_option_has_its_place_in_the_body() {
        let full = Request {
            temperature: Some(0.8),
            max_tokens: Some(400),
            stop: vec!["Mira:".into()],
            schema: Some(
                Schema::new(
                    "beat",
                    r#"{"type":"object","properties":{"text":{},"choices":{}}}"#,
                )
                .unwrap(),
            ),
            ..request()
        };
        insta::assert_snapshot!(full.body().get(), @r#"{"model":"m","messages":[{"role":"system","content":"You narrate."},{"role":"user","content":"I draw \"it\"\n"}],"temperature":0.8,"max_tokens":400,"stop":["Mira:"],"response_format":{"type":"json_schema","json_schema":{"name":"beat","strict":true,"schema":{"type":"object","properties":{"text":{},"choices":{}}}}},"stream":true,"stream_options":{"include_usage":true}}"#);
        assert_eq!(full.body().get(), full.clone().body().get());
    }

    #[test]
    fn labels_of_any_string_are_sendable_headers() {
        let labels = Labels {
            agent: "narrator".into(),
            event: "Ünï 100%\r\nx: y".into(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        };
        let headers = labels.headers();
        assert_eq!(headers["x-storyfleet-agent"], "narrator");
        assert_eq!(
            headers["x-storyfleet-event"],
            "%C3%9Cn%C3%AF%20100%25%0D%0Ax:%20y"
        );
        assert_eq!(
            headers["traceparent"],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        );
        assert!(Labels::default().headers().is_empty());
    }

    #[test]
    fn a_schema_that_is_not_json_is_refused_by_name() {
        let error = Schema::new("beat", "{").unwrap_err();
        assert!(
            error.message.starts_with("schema `beat` is not JSON"),
            "{error}"
        );
    }
}
