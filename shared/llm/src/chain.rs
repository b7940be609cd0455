//! The models that a client asks: one, and those that are asked in its place where it fails.

use std::sync::Arc;

use async_openai::config::Config;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::service::{EVENT_STREAM, Ending, Http};
use crate::settings::Endpoint;
use crate::tape::Heard;
use crate::{Error, Request, Settings, Usage};

/// async-openai's client, made anew for each try around that try's service: two small allocations.
pub(crate) type Api = async_openai::Client<Arc<dyn Config>>;

/// One of them.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub settings: Settings,
    pub manner: Manner,
}

/// How one of them is asked what others are asked too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manner {
    /// Its name at its provider, in the place of the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In the place of the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// No answer may have more tokens, whatever the request allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Tokens of prompt and answer together: what has more is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// A model that can be asked.
pub(crate) struct Line {
    pub(crate) http: reqwest::Client,
    endpoint: Arc<dyn Config>,
    pub(crate) settings: Settings,
    pub(crate) manner: Manner,
}

/// A request as every try sends it to one model.
pub(crate) struct Sent {
    pub(crate) model: String,
    pub(crate) body: Arc<RawValue>,
    pub(crate) headers: HeaderMap,
    pub(crate) max_tokens: Option<u32>,
    /// Of the prompt, where somebody counted.
    pub(crate) tokens: Option<u64>,
}

impl Line {
    pub(crate) fn new(http: reqwest::Client, model: Model) -> Result<Self, Error> {
        let Model { settings, manner } = model;
        Ok(Self {
            http,
            endpoint: Arc::new(Endpoint::new(&settings)?),
            settings,
            manner,
        })
    }

    pub(crate) fn api(&self, ending: Ending, heard: Option<Heard>) -> Api {
        let service = Http {
            client: self.http.clone(),
            max_answer_bytes: self.settings.max_answer_bytes,
            ending,
            heard,
        };
        Api::build(self.http.clone(), Arc::clone(&self.endpoint)).with_http_service(service)
    }

    /// What an answer costs, where that is known.
    pub(crate) fn cost(&self, usage: &Usage) -> Option<u64> {
        let price = self.settings.price.filter(|_| usage.known)?;
        Some(price.of(usage))
    }

    /// Whether its window may hold `request` and its answer.
    pub(crate) fn holds(&self, request: &Request) -> bool {
        let (Some(window), Some(prompt)) = (self.manner.window, request.tokens) else {
            return true;
        };
        let answer = self.manner.max_tokens(request.max_tokens);
        prompt.saturating_add(answer.map_or(0, u64::from)) <= window
    }

    pub(crate) fn sent(&self, request: &Request) -> Sent {
        let mut headers = request.labels.headers();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        let manner = &self.manner;
        let (model, max_tokens) = (
            manner.name.as_ref().unwrap_or(&request.model),
            manner.max_tokens(request.max_tokens),
        );
        let temperature = manner.temperature.or(request.temperature);
        Sent {
            body: request.body_for(model, temperature, max_tokens).into(),
            model: model.clone(),
            headers,
            max_tokens,
            tokens: request.tokens,
        }
    }
}

impl Manner {
    fn max_tokens(&self, asked: Option<u32>) -> Option<u32> {
        self.max_tokens.into_iter().chain(asked).min()
    }
}

impl Model {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            manner: Manner::default(),
        }
    }
}
