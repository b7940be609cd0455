//! `POST /v1/chat/completions`.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use regex::Regex;
use serde_json::json;

use crate::answer;
use crate::app::App;
use crate::calls::Endpoint;
use crate::dice::Dice;
use crate::ending::Ending;
use crate::fault::{Fault, Kind};
use crate::frames::Frames;
use crate::incoming::{Incoming, instead};
use crate::playback::{Pace, Playback};
use crate::scenario::Scope;
use crate::token;
use crate::unary::{self, Raw};
use crate::wire::{CREATED, Chat, Refusal, Usage};

const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

pub(crate) async fn chat(State(app): State<Arc<App>>, mut incoming: Incoming) -> Response {
    let answer = match Answer::to(&app, &mut incoming) {
        Ok(answer) => answer,
        Err(refusal) => {
            incoming.call.outcome = refusal.outcome();
            return refusal.into_response();
        }
    };
    if let Some(response) = instead(answer.fault).await {
        return response;
    }
    if answer.streams {
        answer.stream(incoming)
    } else {
        answer.whole(incoming).await
    }
}

/// All that is sent. The text is a function of the seed and the body alone.
struct Answer {
    id: String,
    model: String,
    text: String,
    finish: &'static str,
    usage: Usage,
    /// In a stream, usage comes only when it was asked for.
    wants_usage: bool,
    streams: bool,
    fault: Option<Fault>,
    pace: Pace,
}

impl Answer {
    fn to(app: &App, incoming: &mut Incoming) -> Result<Self, Refusal> {
        let chat: Chat = incoming.json()?;
        let model = check(&chat)?;
        let stage = app.stage();
        stage.knows(model)?;
        let mut dice = Dice::of(incoming.seed(app), &[&unmarked(&incoming.body)]);
        let id = format!("chatcmpl-{:016x}", dice.roll());
        let pace = incoming.pace(app, Dice::new(dice.roll()));
        let reply = incoming.reply(app, Endpoint::Chat, &|scope| match scope {
            Scope::LastUser => chat.last_user(),
            Scope::Prompt => chat.prompt(),
        });
        let kind = reply.fault.map(|fault| fault.kind);
        let compose = || answer::compose(&chat, &incoming.agent, &mut dice, kind);
        let mut text = reply.text.unwrap_or_else(compose);
        let (end, finish) = ending(&text, &chat, kind);
        text.truncate(end);
        let usage = Usage {
            prompt: chat.prompt_tokens(),
            completion: token::count(&text),
        };
        stage.limiter.admit(usage.prompt + usage.completion)?;
        Ok(Self {
            id,
            model: model.to_owned(),
            text,
            finish,
            usage,
            wants_usage: chat.wants_usage(),
            streams: chat.streams(),
            fault: reply.fault,
            pace,
        })
    }

    fn stream(self, incoming: Incoming) -> Response {
        let tells_usage = self.wants_usage && !self.has(Kind::NoUsage);
        let drip = self.fault.and_then(Fault::drip);
        let playback = Playback {
            frames: Frames::new(&self.id, &self.model, self.wants_usage),
            text: self.text,
            finish: self.finish,
            usage: tells_usage.then_some(self.usage),
            pace: self.pace,
            fault: self.fault,
            call: incoming.call,
            abort: incoming.abort,
        };
        if drip.is_none() {
            let headers = [
                (header::CONTENT_TYPE, EVENT_STREAM),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            return (headers, playback.into_body()).into_response();
        }
        let (bytes, call, abort) = playback.into_bytes();
        let raw = Raw {
            bytes,
            drip,
            ending: Ending::Complete,
            _call: call,
            abort,
        };
        raw.respond(EVENT_STREAM)
    }

    async fn whole(mut self, incoming: Incoming) -> Response {
        if let Some(fault) = self.fault
            && fault.kind == Kind::ContentFilter
        {
            let end = token::head(&self.text, fault.amount).len();
            self.text.truncate(end);
            self.usage.completion = token::count(&self.text);
            self.finish = "content_filter";
        }
        let pause = self.pace.whole(self.usage.completion);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let mut body = json!({
            "id": self.id, "object": "chat.completion", "created": CREATED, "model": self.model,
            "system_fingerprint": "fp_mock",
            "choices": [{"index": 0, "finish_reason": self.finish, "logprobs": null, "message":
                {"role": "assistant", "content": self.text, "refusal": null, "annotations": []}}],
        });
        if !self.has(Kind::NoUsage) {
            body["usage"] = self.usage.json();
        }
        unary::respond(body.to_string(), self.fault, incoming.call, incoming.abort)
    }

    fn has(&self, kind: Kind) -> bool {
        self.fault.is_some_and(|fault| fault.kind == kind)
    }
}

fn check(chat: &Chat) -> Result<&str, Refusal> {
    let model = chat.model.as_deref().filter(|model| !model.is_empty());
    let Some(model) = model else {
        return Err(Refusal::bad_request("you must provide a model parameter").param("model"));
    };
    if chat.messages.is_empty() {
        let message = "Missing required parameter: 'messages': it needs at least one message.";
        return Err(Refusal::bad_request(message).param("messages"));
    }
    if chat.n.is_some_and(|n| n != 1) {
        return Err(Refusal::bad_request("the mock answers once: 'n' must be 1").param("n"));
    }
    Ok(model)
}

/// Where the text ends, and why there.
fn ending(text: &str, chat: &Chat, fault: Option<Kind>) -> (usize, &'static str) {
    match fault {
        Some(Kind::EmptyAnswer) => (0, "stop"),
        Some(Kind::UnknownFinishReason) => (text.len(), "exhausted"),
        _ => {
            let (text, finish) = answer::cut(text, &chat.stop, chat.max_tokens());
            (text.len(), finish)
        }
    }
}

/// A request without the mark of its fences, which is a story's own and random: the same story is told the same.
fn unmarked(body: &[u8]) -> Cow<'_, [u8]> {
    static FENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("<<<([a-z][0-9]{6})\\b")
            .unwrap_or_else(|error| unreachable!("a test compiles it: {error}"))
    });
    let Ok(text) = std::str::from_utf8(body) else {
        return Cow::Borrowed(body);
    };
    match FENCE.captures(text) {
        Some(found) => Cow::Owned(text.replace(&found[1], "").into_bytes()),
        None => Cow::Borrowed(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_of_a_fence_changes_nothing() {
        let told = |mark: &str| format!("{{\"content\":\"<<<{mark} a {mark}>>> <<<{mark} b\"}}");
        let (one, other) = (told("k482915"), told("b000001"));
        assert_eq!(unmarked(one.as_bytes()), unmarked(other.as_bytes()));
        for plain in ["<<<a b>>>", "<<<K482915 a", "k482915", "\u{fffd}"] {
            assert_eq!(*unmarked(plain.as_bytes()), *plain.as_bytes());
        }
    }
}
