//! What every call goes through first: its key, its body, its headers, its count; and the script's say on it.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;

use crate::app::App;
use crate::calls::{Call, Endpoint};
use crate::dice::Dice;
use crate::ending::Abort;
use crate::fault::{Fault, Kind};
use crate::latency::Delay;
use crate::playback::Pace;
use crate::refusal;
use crate::scenario::{Question, Reply, Scope};
use crate::wire::Refusal;

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

impl Incoming {
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Refusal> {
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

fn parsed<T, E: Display>(
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
