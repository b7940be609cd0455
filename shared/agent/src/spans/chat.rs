//! The span of one call of the model, retries included.

use llm::{Class, Completion, Error, Finish, Message, Request};
use serde_json::json;
use tracing::field::Empty;
use tracing::{Span, info, info_span};

use super::{CONTENT, TARGET, failed, list};

/// Most bytes of what was asked, and of what was answered, that a span holds.
const SHOWN: usize = 16 * 1024;

/// A call that runs. One that is let go of before its end was cancelled.
#[derive(Debug)]
pub struct Chat {
    span: Span,
    has_ended: bool,
}

impl Chat {
    #[must_use]
    pub fn begin(request: &Request) -> Self {
        let span = info_span!(
            target: TARGET,
            "chat",
            "otel.name" = format!("chat {}", request.model),
            "otel.kind" = "client",
            "gen_ai.operation.name" = "chat",
            // Of whatever server it is, this is the API that it speaks.
            "gen_ai.provider.name" = "openai",
            "gen_ai.request.model" = request.model,
            "gen_ai.request.max_tokens" = request.max_tokens,
            "gen_ai.request.temperature" = request.temperature.map(f64::from),
            "gen_ai.request.stream" = true,
            "gen_ai.output.type" = if request.schema.is_some() { "json" } else { "text" },
            "gen_ai.response.model" = Empty,
            "gen_ai.usage.input_tokens" = Empty,
            "gen_ai.usage.cache_read.input_tokens" = Empty,
            "gen_ai.usage.output_tokens" = Empty,
            "gen_ai.response.time_to_first_chunk" = Empty,
            "storyfleet.llm.tries" = Empty,
            "error.type" = Empty,
            "otel.status_code" = Empty,
        );
        Self {
            span,
            has_ended: false,
        }
    }

    /// The answer is whole.
    pub fn answered(mut self, request: &Request, answer: &[&str], completion: &Completion) {
        self.has_ended = true;
        let Self { span, .. } = &self;
        if span.is_disabled() {
            return;
        }
        span.record("gen_ai.response.model", completion.model.as_str());
        if completion.usage.known {
            span.record("gen_ai.usage.input_tokens", completion.usage.prompt);
            span.record(
                "gen_ai.usage.cache_read.input_tokens",
                completion.usage.cached,
            );
            span.record("gen_ai.usage.output_tokens", completion.usage.completion);
        }
        let first = completion.first_token.as_secs_f64();
        span.record("gen_ai.response.time_to_first_chunk", first);
        span.record("storyfleet.llm.tries", completion.tries);
        let finish = match completion.finish {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Other => "other",
        };
        list(span, "gen_ai.response.finish_reasons", finish);
        span.in_scope(|| tell(request, answer, finish));
    }

    pub fn failed(mut self, error: &Error) {
        self.has_ended = true;
        self.span.record("storyfleet.llm.tries", error.tries);
        failed(&self.span, error.class.as_str());
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if !self.has_ended {
            failed(&self.span, Class::Cancelled.as_str());
        }
    }
}

/// What was asked and answered, for whoever asked for that.
fn tell(request: &Request, answer: &[&str], finish: &str) {
    info!(
        target: CONTENT,
        {
            gen_ai.operation.name = "chat",
            gen_ai.input.messages = asked(&request.messages),
            gen_ai.output.messages = answered(answer, finish),
        },
        "gen_ai.client.inference.operation.details"
    );
}

fn answered(answer: &[&str], finish: &str) -> String {
    let answer = answer.concat();
    let parts = json!([{"type": "text", "content": head(&answer, SHOWN)}]);
    json!([{"role": "assistant", "parts": parts, "finish_reason": finish}]).to_string()
}

/// The messages as the conventions write them, in their order as far as they fit.
fn asked(messages: &[Message]) -> String {
    let mut left = SHOWN;
    let shown = messages.iter().map(|message| {
        let content = head(message.text(), left);
        left -= content.len();
        json!({"role": message.role(), "parts": [{"type": "text", "content": content}]})
    });
    json!(shown.collect::<Vec<_>>()).to_string()
}

/// At most so many bytes of the beginning.
fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_prompt_is_told_than_fits() {
        let messages = [Message::system("é".repeat(SHOWN)), Message::user("I draw.")];
        let told: serde_json::Value = serde_json::from_str(&asked(&messages)).unwrap();
        let content = |n: usize| told[n]["parts"][0]["content"].as_str().unwrap().len();
        assert_eq!([content(0), content(1)], [SHOWN, 0]);
        assert_eq!(told[1]["role"], "user");
    }
}
