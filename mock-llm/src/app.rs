//! The server's state and routes, and what every call goes through first: key, body, headers, count.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::calls::{Call, Calls, Endpoint};
use crate::dice::Dice;
use crate::ending::Abort;
use crate::fault::{Fault, Kind};
use crate::latency::Delay;
use crate::limits::Limiter;
use crate::playback::Pace;
use crate::scenario::{Question, Reply, Scenario, Scope, Script};
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

/// A call that has shown its key, with its body unread.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) body: Bytes,
    pub(crate) agent: String,
    pub(crate) overrides: Overrides,
    pub(crate) call: Call,
    pub(crate) abort: Abort,
}

/// What the caller asks of the mock itself, in `x-mock-*` headers.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    /// `none` is a wish too: for no fault, whatever the scenario says.
    fault: Option<Option<Fault>>,
    pub(crate) first_token: Option<Delay>,
    pub(crate) between_tokens: Option<Delay>,
    pub(crate) seed: Option<u64>,
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

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.options.api_key else {
            return Ok(());
        };
        let shown = text(headers, header::AUTHORIZATION.as_str());
        match shown.strip_prefix("Bearer ") {
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

impl Incoming {
    pub(crate) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let message = "We could not parse the JSON body of your request";
            Refusal::bad_request(format!("{message}: {error}"))
        })
    }

    /// The script's reply, unless a header asks for another fault. A call that is to fail counts as that fault.
    pub(crate) fn reply(
        &mut self,
        app: &App,
        endpoint: Endpoint,
        text: &dyn Fn(Scope) -> String,
    ) -> Reply {
        let question = Question {
            endpoint,
            agent: &self.agent,
            call: &self.call,
            seed: self.seed(app),
            text,
        };
        let mut reply = app.stage().script.reply(&question).unwrap_or_default();
        if let Some(fault) = self.overrides.fault {
            reply.fault = fault;
        }
        if let Some(fault) = reply.fault {
            self.call.outcome = fault.name();
        }
        reply
    }

    pub(crate) fn pace(&self, app: &App, dice: Dice) -> Pace {
        let (usual, wanted) = (&app.options.latency, &self.overrides);
        Pace {
            first_token: wanted
                .first_token
                .as_ref()
                .unwrap_or(&usual.first_token)
                .clone(),
            between_tokens: wanted
                .between_tokens
                .as_ref()
                .unwrap_or(&usual.between_tokens)
                .clone(),
            chunk_tokens: usual.chunk_tokens.max(1),
            dice,
        }
    }

    pub(crate) fn seed(&self, app: &App) -> u64 {
        self.overrides.seed.unwrap_or(app.options.seed)
    }
}

impl FromRequest<Arc<App>> for Incoming {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        let endpoint = match request.uri().path() {
            "/v1/moderations" => Endpoint::Moderations,
            _ => Endpoint::Chat,
        };
        let headers = request.headers();
        let agent = text(headers, "x-storyfleet-agent").to_owned();
        let event = text(headers, "x-storyfleet-event").to_owned();
        let allowed = app.authorize(headers);
        let overrides = Overrides::read(headers);
        let abort = request.extensions().get::<Abort>().cloned();
        let body = Bytes::from_request(request, app).await;
        let known = body.as_ref().map_or(&[][..], |body| body);
        let mut call = app.calls.begin(endpoint, &agent, &event, known);
        let checked = allowed.and(overrides).and_then(|overrides| {
            let body = body.map_err(|error| {
                Refusal::new(error.status(), "invalid_request_error", error.body_text())
            })?;
            Ok((overrides, body))
        });
        match checked {
            Ok((overrides, body)) => Ok(Self {
                body,
                agent,
                overrides,
                call,
                abort: abort.unwrap_or_default(),
            }),
            Err(refusal) => {
                call.outcome = refusal.outcome();
                Err(refusal)
            }
        }
    }
}

impl Overrides {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self {
            fault: parsed(headers, "x-mock-fault", |text| match text {
                "none" => Ok(None),
                fault => fault.parse().map(Some),
            })?,
            first_token: parsed(headers, "x-mock-ttft", str::parse)?,
            between_tokens: parsed(headers, "x-mock-itl", str::parse)?,
            seed: parsed(headers, "x-mock-seed", str::parse)?,
        })
    }
}

fn parsed<T, E: std::fmt::Display>(
    headers: &HeaderMap,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Refusal> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let parsed = parse(text(headers, name));
    parsed
        .map(Some)
        .map_err(|error| Refusal::bad_request(format!("{name}: {error}")))
}

/// A header's value, or nothing when it is not there or no text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// What a fault makes of the answer before a byte of it is sent: another answer, or none ever.
pub(crate) async fn instead(fault: Option<Fault>) -> Option<Response> {
    let fault = fault?;
    if fault.kind == Kind::NoHeaders {
        std::future::pending::<()>().await;
    }
    refusal::response(fault)
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
