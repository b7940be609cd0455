//! OpenAI's JSON, as far as the mock reads and writes it.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::schema::Schema;
use crate::token;

/// When everything was made: the start of 2026. Answers are functions of what was asked, not of the time.
pub(crate) const CREATED: u64 = 1_767_225_600;

/// The body of a chat request. Fields not named here are accepted and make no difference.
#[derive(Debug, Deserialize)]
pub(crate) struct Chat {
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub(crate) stop: Stop,
    pub(crate) response_format: Option<ResponseFormat>,
    pub(crate) n: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    role: Box<str>,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stop {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    Text,
    JsonObject,
    JsonSchema { json_schema: JsonSchema },
}

#[derive(Debug, Deserialize)]
pub(crate) struct JsonSchema {
    pub(crate) schema: Box<Schema>,
}

/// The body of a moderation request.
#[derive(Debug, Deserialize)]
pub(crate) struct Moderate {
    pub(crate) model: Option<String>,
    pub(crate) input: Input,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    One(String),
    Many(Vec<Item>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Item {
    Text(String),
    Part {
        #[serde(default)]
        text: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: u32,
    pub(crate) completion: u32,
}

/// An answer that is an error, in OpenAI's envelope.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// Names and values that make valid headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<&'static str>,
    pub(crate) message: String,
}

impl Chat {
    /// What the system and developer messages say.
    pub(crate) fn instructions(&self) -> impl Iterator<Item = &str> {
        let system = |message: &&Message| matches!(&*message.role, "system" | "developer");
        self.messages
            .iter()
            .filter(system)
            .flat_map(Message::text_parts)
    }

    /// The text of the last user message.
    pub(crate) fn last_user(&self) -> String {
        let user = |message: &&Message| &*message.role == "user";
        let last = self.messages.iter().rfind(user);
        last.map(Message::text).unwrap_or_default()
    }

    /// The text of all messages, a line break between them.
    pub(crate) fn prompt(&self) -> String {
        let texts: Vec<_> = self.messages.iter().map(Message::text).collect();
        texts.join("\n")
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream.unwrap_or_default()
    }

    pub(crate) fn wants_usage(&self) -> bool {
        let options = self.stream_options.as_ref();
        options
            .and_then(|options| options.include_usage)
            .unwrap_or_default()
    }

    pub(crate) fn max_tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    pub(crate) fn prompt_tokens(&self) -> u32 {
        /// What the roles and separators of one message cost.
        const MESSAGE: u32 = 4;
        let texts = self.messages.iter().flat_map(Message::text_parts);
        texts.map(token::count).sum::<u32>() + MESSAGE * self.messages.len() as u32
    }
}

impl Message {
    fn text(&self) -> String {
        self.text_parts().collect()
    }

    fn text_parts(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match &self.content {
            None => (None, &[][..]),
            Some(Content::Text(text)) => (Some(text.as_str()), &[][..]),
            Some(Content::Parts(parts)) => (None, parts.as_slice()),
        };
        one.into_iter()
            .chain(many.iter().map(|part| part.text.as_str()))
    }
}

impl Stop {
    /// Where the first stop sequence begins.
    pub(crate) fn find(&self, text: &str) -> Option<usize> {
        let stops = match self {
            Self::None => &[][..],
            Self::One(stop) => std::slice::from_ref(stop),
            Self::Many(stops) => stops,
        };
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        stops.filter_map(|stop| text.find(stop)).min()
    }
}

impl Input {
    /// The texts to judge, one result for each.
    pub(crate) fn texts(&self) -> Vec<&str> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(items) => items
                .iter()
                .map(|item| match item {
                    Item::Text(text) | Item::Part { text } => text.as_str(),
                })
                .collect(),
        }
    }
}

impl Usage {
    pub(crate) fn json(self) -> serde_json::Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            kind,
            code: None,
            param: None,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(crate) fn param(self, param: &'static str) -> Self {
        Self {
            param: Some(param),
            ..self
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What the call counts as.
    pub(crate) fn outcome(&self) -> &'static str {
        self.code.unwrap_or(self.kind)
    }

    /// `{"error":…}`, as it also stands within a stream.
    pub(crate) fn envelope(&self) -> serde_json::Value {
        json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json_body(self.envelope().to_string());
        let mut response = (self.status, body).into_response();
        for (name, value) in self.headers {
            let value = value
                .parse()
                .expect("a number or a date is a header's value");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A body with its content type.
pub(crate) fn json_body(body: impl Into<Bytes>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        axum::body::Body::from(body.into()),
    )
}
