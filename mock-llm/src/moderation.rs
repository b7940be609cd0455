//! `POST /v1/moderations`: all of OpenAI's categories, one of them in use.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::answer;
use crate::app::App;
use crate::calls::Endpoint;
use crate::dice::Dice;
use crate::incoming::{Incoming, instead};
use crate::token;
use crate::unary;
use crate::wire::{Moderate, Refusal};

const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];
const FLAGGED: &str = "violence";

pub(crate) async fn moderations(State(app): State<Arc<App>>, mut incoming: Incoming) -> Response {
    let asked = match read(&app, &incoming) {
        Ok(asked) => asked,
        Err(refusal) => {
            incoming.call.outcome = refusal.outcome();
            return refusal.into_response();
        }
    };
    let text = asked.input.texts().join("\n");
    let reply = incoming.reply(&app, Endpoint::Moderations, &|_| text.clone());
    let fault = reply.fault;
    if let Some(response) = instead(fault).await {
        return response;
    }
    let mut dice = Dice::of(incoming.seed(&app), &[&incoming.body]);
    let id = format!("modr-{:016x}", dice.roll());
    let delay = incoming.pace(&app, dice).whole(1);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let results: Vec<_> = asked.input.texts().into_iter().map(judge).collect();
    let model = asked.model.as_deref().unwrap_or("omni-moderation-latest");
    let body = json!({"id": id, "model": model, "results": results});
    unary::respond(body.to_string(), fault, incoming.call, incoming.abort)
}

fn read(app: &App, incoming: &Incoming) -> Result<Moderate, Refusal> {
    let asked: Moderate = incoming.json()?;
    let tokens = asked.input.texts().into_iter().map(token::count).sum();
    app.stage().limiter.admit(tokens)?;
    Ok(asked)
}

fn judge(text: &str) -> Value {
    let flagged = answer::is_flagged(text);
    let map = |of: &dyn Fn(bool) -> Value| -> Map<String, Value> {
        let pairs = CATEGORIES.map(|name| (name.to_owned(), of(flagged && name == FLAGGED)));
        pairs.into_iter().collect()
    };
    json!({
        "flagged": flagged,
        "categories": map(&|is| is.into()),
        "category_scores": map(&|is| if is { 0.97 } else { 0.0001 }.into()),
        "category_applied_input_types": map(&|_| json!(["text"])),
    })
}
