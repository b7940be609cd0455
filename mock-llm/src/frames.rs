//! The frames of a streamed answer: OpenAI's chunks as Server-Sent Events, written without a tree of JSON.

use serde_json::json;

use crate::wire::{CREATED, Refusal, Usage};

/// What all frames of one answer share.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Up to the opening of `choices`.
    head: String,
    /// From the closing of `choices`.
    tail: &'static str,
}

impl Frames {
    /// With `usage` each frame says that its usage is still to come.
    pub(crate) fn new(id: &str, model: &str, usage: bool) -> Self {
        let model = serde_json::Value::from(model);
        Self {
            head: format!(
                r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{CREATED},"model":{model},"system_fingerprint":"fp_mock","choices":["#
            ),
            tail: if usage {
                "],\"usage\":null}\n\n"
            } else {
                "]}\n\n"
            },
        }
    }

    /// The bytes of a frame without its text.
    pub(crate) fn overhead(&self) -> usize {
        const CHOICE: usize = 80;
        self.head.len() + CHOICE + self.tail.len()
    }

    pub(crate) fn role(&self, out: &mut Vec<u8>) {
        let delta = r#"{"role":"assistant","content":"","refusal":null}"#;
        self.choice(out, |out| out.extend_from_slice(delta.as_bytes()));
    }

    pub(crate) fn text(&self, out: &mut Vec<u8>, text: &str) {
        self.choice(out, |out| {
            out.extend_from_slice(br#"{"content":"#);
            serde_json::to_writer(&mut *out, text).expect("a text is written to memory");
            out.push(b'}');
        });
    }

    pub(crate) fn finish(&self, out: &mut Vec<u8>, reason: &str) {
        let choice =
            format!(r#"{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"{reason}"}}"#);
        self.frame(out, |out| out.extend_from_slice(choice.as_bytes()));
    }

    pub(crate) fn usage(&self, out: &mut Vec<u8>, usage: Usage) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(format!("],\"usage\":{}}}\n\n", usage.json()).as_bytes());
    }

    pub(crate) fn done(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// An error in band.
    pub(crate) fn error(&self, out: &mut Vec<u8>, error: &Refusal) {
        out.extend_from_slice(format!("data: {}\n\n", error.envelope()).as_bytes());
    }

    /// A frame whose JSON stops in the middle.
    pub(crate) fn broken(&self, out: &mut Vec<u8>) {
        let half = json!({"choices": [{"delta": {"content": "half"}}]}).to_string();
        out.extend_from_slice(format!("data: {}\n\n", &half[..half.len() / 2]).as_bytes());
    }

    /// A line that is neither a field nor a comment of an event stream.
    pub(crate) fn garbage(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<<< upstream hiccup >>>\n\n");
    }

    /// A frame with bytes that no UTF-8 has.
    pub(crate) fn not_utf8(&self, out: &mut Vec<u8>) {
        self.choice(out, |out| {
            out.extend_from_slice(b"{\"content\":\"\xff\xfe\"}");
        });
    }

    /// The start of a frame, up to and into the character `…`.
    pub(crate) fn split_character(&self, out: &mut Vec<u8>) {
        let (text, start) = ("…", out.len());
        self.text(out, text);
        let mut frame = out[start..].windows(text.len());
        let at = frame.position(|window| window == text.as_bytes());
        out.truncate(start + at.expect("the frame holds its text") + 1);
    }

    fn choice(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>)) {
        self.frame(out, |out| {
            out.extend_from_slice(br#"{"index":0,"delta":"#);
            delta(out);
            out.extend_from_slice(br#","logprobs":null,"finish_reason":null}"#);
        });
    }

    fn frame(&self, out: &mut Vec<u8>, choice: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(self.head.as_bytes());
        choice(out);
        out.extend_from_slice(self.tail.as_bytes());
    }
}
