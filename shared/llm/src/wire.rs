//! The frames of a streamed answer: only the fields that are needed, and lenient about the rest, for
//! every compatible server adds, renames or forgets something. One frame costs one allocation: its text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::Value;

use crate::lenient::{Filled, First, Name};
use crate::{Finish, Usage};

/// One `data:` frame. An in-band error has `error`, or, from older vLLM and SGLang, is flat.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Frame {
    #[serde(default)]
    pub(crate) choices: First<Choice>,
    pub(crate) model: Option<Name>,
    pub(crate) usage: Option<WireUsage>,
    pub(crate) error: Option<Value>,
    pub(crate) message: Option<Value>,
    pub(crate) code: Option<Value>,
    pub(crate) r#type: Option<Value>,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Choice {
    pub(crate) delta: Option<Delta>,
    pub(crate) finish_reason: Option<Reason>,
}

#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct Delta {
    pub(crate) content: Option<String>,
    #[serde(default)]
    reasoning_content: Filled,
    #[serde(default)]
    reasoning: Filled,
    #[serde(default)]
    refusal: Filled,
}

/// What a finish reason means to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Done(Finish),
    Filtered,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
pub(crate) struct WireUsage {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u32>,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u32>,
}

/// The answer of `/models`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Models {
    pub(crate) data: Vec<Model>,
}

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Model {
    pub(crate) id: String,
}

impl Frame {
    /// The frame, or the error that it is: an object or a string with whatever says what happened.
    pub(crate) fn checked(self) -> Result<Self, Value> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.choices.0.is_none()
            && let Some(message) = self.message
        {
            let (code, kind) = (self.code, self.r#type);
            return Err(serde_json::json!({ "message": message, "code": code, "type": kind }));
        }
        Ok(Self {
            error: None,
            ..self
        })
    }
}

impl Delta {
    pub(crate) fn reasons(&self) -> bool {
        self.reasoning_content.0 || self.reasoning.0
    }

    pub(crate) fn refuses(&self) -> bool {
        self.refusal.0
    }
}

impl From<WireUsage> for Usage {
    fn from(wire: WireUsage) -> Self {
        Self {
            prompt: wire.prompt_tokens,
            cached: wire
                .prompt_tokens_details
                .and_then(|d| d.cached_tokens)
                .unwrap_or(0),
            completion: wire.completion_tokens,
            reasoning: wire
                .completion_tokens_details
                .and_then(|d| d.reasoning_tokens)
                .unwrap_or(0),
            known: true,
        }
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl Visitor<'_> for Read {
            type Value = Reason;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a finish reason")
            }

            fn visit_str<E>(self, reason: &str) -> Result<Reason, E> {
                Ok(match reason {
                    "stop" => Reason::Done(Finish::Stop),
                    "length" => Reason::Done(Finish::Length),
                    "content_filter" => Reason::Filtered,
                    _ => Reason::Done(Finish::Other),
                })
            }
        }

        deserializer.deserialize_str(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(json: &str) -> Frame {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_full_frame_gives_its_text_and_ignores_the_rest() {
        let frame = frame(
            r#"{"id":"x","object":"chat.completion.chunk","created":1,"model":"gpt-x","system_fingerprint":null,
               "choices":[{"index":0,"delta":{"role":"assistant","content":"Hi","refusal":null},"logprobs":null,"finish_reason":null},
                          {"index":1,"delta":{"content":"second"}}],"usage":null,"obfuscation":"aaa"}"#,
        );
        assert_eq!(&*frame.model.unwrap().0, "gpt-x");
        let delta = frame.choices.0.unwrap().delta.unwrap();
        assert_eq!(delta.content.as_deref(), Some("Hi"));
        assert!(!delta.reasons() && !delta.refuses());
    }

    #[test]
    fn empty_null_and_missing_choices_are_none() {
        for json in [r#"{"choices":[]}"#, r#"{"choices":null}"#, "{}"] {
            assert!(frame(json).choices.0.is_none(), "{json}");
        }
    }

    #[test]
    fn reasoning_is_seen_under_both_names() {
        for delta in [r#"{"reasoning_content":"hm"}"#, r#"{"reasoning":"hm"}"#] {
            let frame = frame(&format!(r#"{{"choices":[{{"delta":{delta}}}]}}"#));
            assert!(frame.choices.0.unwrap().delta.unwrap().reasons(), "{delta}");
        }
        let empty = frame(r#"{"choices":[{"delta":{"reasoning_content":"","reasoning":null}}]}"#);
        assert!(!empty.choices.0.unwrap().delta.unwrap().reasons());
    }

    #[test]
    fn an_unknown_finish_reason_is_an_end() {
        for (reason, meant) in [
            ("stop", Reason::Done(Finish::Stop)),
            ("length", Reason::Done(Finish::Length)),
            ("content_filter", Reason::Filtered),
            ("eos_token", Reason::Done(Finish::Other)),
        ] {
            let frame = frame(&format!(
                r#"{{"choices":[{{"delta":{{}},"finish_reason":"{reason}"}}]}}"#
            ));
            assert_eq!(frame.choices.0.unwrap().finish_reason, Some(meant));
        }
    }

    #[test]
    fn usage_counts_what_is_there() {
        let frame = frame(
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,
               "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":null}}"#,
        );
        let usage = Usage::from(frame.usage.unwrap());
        assert_eq!(
            usage,
            Usage {
                prompt: 9,
                cached: 4,
                completion: 5,
                reasoning: 0,
                known: true
            }
        );
    }

    #[test]
    fn errors_are_seen_wrapped_and_flat() {
        let wrapped = frame(r#"{"error":{"message":"busy","code":503}}"#).checked();
        assert_eq!(wrapped.unwrap_err()["code"], 503);
        let flat = frame(r#"{"object":"error","message":"busy","type":"x","code":503}"#).checked();
        assert_eq!(flat.unwrap_err()["message"], "busy");
        assert!(frame(r#"{"choices":[{"delta":{}}]}"#).checked().is_ok());
    }
}
