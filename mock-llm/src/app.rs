//! The server's state and its routes.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::calls::Calls;
use crate::limits::Limiter;
use crate::scenario::{Scenario, Script};
use crate::wire::{Refusal, json_body};
use crate::{Options, admin, chat, moderation, refusal};

/// Prompts are long; nothing sensible is longer than this.
const BODY_LIMIT: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) options: Options,
    pub(crate) calls: Arc<Calls>,
    stage: RwLock<Arc<Stage>>,
}

/// What a change of scenario replaces.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) script: Script,
    pub(crate) limiter: Limiter,
}

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/moderations", post(moderation::moderations))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/healthz", get("ok\n"))
        .nest("/admin", admin::router())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(app)
}

impl App {
    pub(crate) fn new(options: Options) -> Self {
        let stage = RwLock::new(Arc::new(Stage::new(options.scenario.clone())));
        Self {
            options,
            calls: Arc::default(),
            stage,
        }
    }

    pub(crate) fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.stage.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the scenario anew: no rule has matched yet, buckets are full.
    pub(crate) fn set(&self, scenario: Scenario) {
        let stage = Arc::new(Stage::new(scenario));
        *self.stage.write().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    pub(crate) fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.options.api_key else {
            return Ok(());
        };
        let shown = headers.get(header::AUTHORIZATION);
        let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match shown {
            Some(shown) if shown == key.expose_secret() => Ok(()),
            _ => Err(refusal::unauthorized()),
        }
    }
}

impl Stage {
    fn new(scenario: Scenario) -> Self {
        Self {
            limiter: Limiter::new(scenario.limits),
            script: Script::new(scenario),
        }
    }

    /// No list of models: every model exists.
    pub(crate) fn knows(&self, model: &str) -> Result<(), Refusal> {
        let models = &self.script.scenario.models;
        if models.is_empty() || models.iter().any(|known| known == model) {
            return Ok(());
        }
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        let refusal = Refusal::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Err(refusal.param("model").code("model_not_found"))
    }
}

async fn models(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Refusal> {
    app.authorize(&headers)?;
    let stage = app.stage();
    let names = &stage.script.scenario.models;
    let models: Vec<_> = match names.as_slice() {
        [] => vec![card("mock")],
        names => names.iter().map(|name| card(name)).collect(),
    };
    let list = json!({"object": "list", "data": models});
    Ok(json_body(list.to_string()).into_response())
}

async fn model(
    State(app): State<Arc<App>>,
    axum::extract::Path(model): axum::extract::Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    app.authorize(&headers)?;
    app.stage().knows(&model)?;
    Ok(json_body(card(&model).to_string()).into_response())
}

fn card(model: &str) -> serde_json::Value {
    json!({"id": model, "object": "model", "created": crate::wire::CREATED, "owned_by": "mock-llm"})
}

async fn unknown(request: Request) -> Refusal {
    let message = format!(
        "Invalid URL ({} {})",
        request.method(),
        request.uri().path()
    );
    Refusal::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
}

async fn wrong_method(request: Request) -> Refusal {
    let message = format!(
        "Not allowed to {} on {}",
        request.method(),
        request.uri().path()
    );
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        message,
    )
}
