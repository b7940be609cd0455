//! Two recordings of one turn, held against each other level by level.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::Effects;
use crate::recording::Recording;

/// What follows from what: a difference shows first where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// What of the story's context the prompts hold.
    Context,
    /// The texts of the messages.
    Prompt,
    /// The request's bytes, and what is in them besides the messages.
    Request,
    /// What the model said.
    Response,
    /// What becomes of the story.
    Effects,
}

/// One thing that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) level: Level,
    /// Which of the level's things, for people.
    pub(crate) place: String,
    pub(crate) recorded: String,
    pub(crate) replayed: String,
}

/// What is measured anew with each call of a model, and says nothing of what it said: the price is that of whoever asks now.
const MEASURED: [&str; 7] = [
    "cost",
    "ms",
    "ttft_ms",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tries",
];

/// `live`: a model answered anew, so what is measured of its answer does not count.
pub(crate) fn differences(
    recorded: &Recording<'_>,
    replayed: &Recording<'_>,
    live: bool,
) -> Vec<Difference> {
    let mut found = Differences::default();
    if let (Some(was), Some(is)) = (&recorded.effects, &replayed.effects) {
        let (was, is) = (held(was), held(is));
        found.note(Level::Context, "manifest", pretty(&was), pretty(&is));
    }
    for number in 0..recorded.calls.len().max(replayed.calls.len()) {
        let name = format!("call {}", number + 1);
        match (recorded.calls.get(number), replayed.calls.get(number)) {
            (Some(was), Some(is)) => found.call(&name, was, is),
            (was, is) => {
                let made = |call: Option<_>| if call.is_some() { "made" } else { "not made" };
                found.note(
                    Level::Request,
                    &name,
                    made(was).to_owned(),
                    made(is).to_owned(),
                );
            }
        }
    }
    found.note(
        Level::Effects,
        "effects",
        ended(recorded, live),
        ended(replayed, live),
    );
    found.0
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn note(&mut self, level: Level, place: &str, recorded: String, replayed: String) {
        if recorded != replayed {
            let place = place.to_owned();
            self.0.push(Difference {
                level,
                place,
                recorded,
                replayed,
            });
        }
    }

    fn call(&mut self, name: &str, was: &llm::Recorded, is: &llm::Recorded) {
        let (before, now) = (Asked::new(&was.request), Asked::new(&is.request));
        for at in 0..before.messages.len().max(now.messages.len()) {
            let place = format!("{name}, message {}", at + 1);
            self.note(Level::Prompt, &place, before.message(at), now.message(at));
        }
        let parameters = format!("{name}, parameters");
        self.note(
            Level::Request,
            &parameters,
            pretty(&before.rest),
            pretty(&now.rest),
        );
        self.note(
            Level::Request,
            &format!("{name}, sha256"),
            sha(was),
            sha(is),
        );
        self.note(Level::Response, name, was.text(), is.text());
    }
}

/// What of the story the prompts hold. How many tokens that has follows from the prompts.
fn held(effects: &Effects) -> Value {
    let mut manifest = json(&effects.manifest);
    if let Value::Object(fields) = &mut manifest {
        fields.remove("tokens");
    }
    manifest
}

/// What a turn made of its story, as text.
fn ended(turn: &Recording<'_>, live: bool) -> String {
    let mut ended = match (&turn.effects, &turn.failed) {
        (Some(effects), _) => json(effects),
        (None, failed) => serde_json::json!({"failed": failed}),
    };
    if let Value::Object(fields) = &mut ended {
        // A level of its own.
        fields.remove("manifest");
    }
    if live {
        unmeasured(&mut ended);
    }
    pretty(&ended)
}

/// The bodies of requests: messages, and the rest.
struct Asked {
    messages: Vec<String>,
    /// With the messages' `roles`.
    rest: Value,
}

impl Asked {
    fn new(request: &RawValue) -> Self {
        let mut rest: Value = serde_json::from_str(request.get()).unwrap_or_default();
        let messages = rest
            .as_object_mut()
            .and_then(|body| body.remove("messages"));
        let messages = match messages {
            Some(Value::Array(messages)) => messages,
            _ => Vec::new(),
        };
        let text = |message: &Value, field| message[field].as_str().unwrap_or_default().to_owned();
        let all = |field| messages.iter().map(move |message| text(message, field));
        if let Some(body) = rest.as_object_mut() {
            body.insert("roles".to_owned(), all("role").collect());
        }
        Self {
            messages: all("content").collect(),
            rest,
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().flat_map(|text| text.lines())
    }

    fn message(&self, at: usize) -> String {
        self.messages.get(at).cloned().unwrap_or_default()
    }
}

/// The texts of a call's messages.
pub(crate) fn messages(call: &llm::Recorded) -> Vec<String> {
    Asked::new(&call.request).messages
}

/// How `request` differs, message by message, from the recorded one that is most like it.
pub(crate) fn nearest(recorded: &[llm::Recorded], request: &RawValue) -> Option<Vec<Difference>> {
    let asked = Asked::new(request);
    let wanted: HashSet<&str> = asked.lines().collect();
    let alike = |near: &Asked| near.lines().filter(|line| wanted.contains(line)).count();
    let near = recorded.iter().map(|call| Asked::new(&call.request));
    let near = near.max_by_key(alike)?;
    let differences = (0..near.messages.len().max(asked.messages.len())).map(|at| Difference {
        level: Level::Prompt,
        place: format!("message {}", at + 1),
        recorded: near.message(at),
        replayed: asked.message(at),
    });
    let differences = differences.filter(|found| found.recorded != found.replayed);
    Some(differences.collect())
}

fn sha(call: &llm::Recorded) -> String {
    let digest = Sha256::digest(call.request.get().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn unmeasured(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !MEASURED.contains(&name.as_str()));
            fields.values_mut().for_each(unmeasured);
        }
        Value::Array(items) => items.iter_mut().for_each(unmeasured),
        _ => {}
    }
}
