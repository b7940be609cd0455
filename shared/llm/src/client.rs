//! The client: one pooled HTTP client, and the calls that can be made with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::config::Config;
use async_openai::error::OpenAIError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at};

use crate::limits::{Limit, Retries};
use crate::paid::Answers;
use crate::service::{Ending, Http};
use crate::settings::Endpoint;
use crate::tape::{Heard, Reel, Tape};
use crate::{
    Bought, Call, Class, Completion, Error, Finish, Gate, Paid, Piece, Price, Recorded, Request,
    Settings, Usage, wire,
};

/// Makes calls to one provider. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    tape: Option<Tape>,
    gate: Gate,
    answers: Option<Answers>,
}

struct Inner {
    http: reqwest::Client,
    endpoint: Arc<dyn Config>,
    settings: Settings,
}

/// async-openai's client, made anew for each try around that try's service: two small allocations.
pub(crate) type Api = async_openai::Client<Arc<dyn Config>>;

impl Client {
    /// Fails if the settings cannot work; nothing is sent yet.
    ///
    /// Proxy variables of the environment are not followed, nor are redirects: the base URL is where
    /// prompts and key go, and nowhere else. HTTP/1.1 on kept connections, one per call in flight.
    pub fn new(mut settings: Settings) -> Result<Self, Error> {
        settings.api_key = settings
            .api_key
            .filter(|key| !key.expose_secret().is_empty());
        let endpoint = Arc::new(Endpoint::new(&settings)?);
        let http = reqwest::Client::builder()
            .user_agent(concat!("storyfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.deadlines.connect)
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| {
                Error::new(Class::Request, "the HTTP client cannot be made").with_source(error)
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                endpoint,
                settings,
            }),
            tape: None,
            gate: Gate::default(),
            answers: None,
        })
    }

    /// A client with another key on the same connections; calls of this one keep its own.
    ///
    /// # Errors
    /// When HTTP forbids the key.
    pub fn with_key(&self, key: SecretString) -> Result<Self, Error> {
        let settings = Settings {
            api_key: Some(key).filter(|key| !key.expose_secret().is_empty()),
            ..self.inner.settings.clone()
        };
        let inner = Inner {
            http: self.inner.http.clone(),
            endpoint: Arc::new(Endpoint::new(&settings)?),
            settings,
        };
        Ok(Self {
            inner: Arc::new(inner),
            tape: None,
            gate: Gate::default(),
            answers: None,
        })
    }

    /// The same client; its calls are written down.
    #[must_use]
    pub fn taped(&self) -> (Self, Tape) {
        self.with(Tape::without(self.inner.settings.api_key.clone()))
    }

    /// The same client, but no provider is asked: its calls are answered with `calls`, the first with the first, whatever
    /// they ask; that is written down. `speed`: how many times as fast as they went; 0 = at once. What the deadlines ended
    /// is in the calls, so there should be none now: [`Deadlines::NONE`](crate::Deadlines::NONE).
    #[must_use]
    pub fn playing(&self, calls: Vec<Recorded>, speed: f64) -> (Self, Tape) {
        self.with(Tape::playing(calls, speed))
    }

    fn with(&self, tape: Tape) -> (Self, Tape) {
        let client = Self {
            tape: Some(tape.clone()),
            ..self.clone()
        };
        (client, tape)
    }

    /// The same client; each request of its streamed calls is asked for there first.
    #[must_use]
    pub fn through(&self, gate: Gate) -> Self {
        Self {
            gate,
            ..self.clone()
        }
    }

    /// The same client. A streamed call that asks what one of `given` answers gets that answer; every other answer is told
    /// once it is whole.
    #[must_use]
    pub fn keeping(&self, given: Vec<Paid>) -> (Self, mpsc::Receiver<Bought>) {
        let (answers, told) = Answers::new(given);
        let client = Self {
            answers: Some(answers),
            ..self.clone()
        };
        (client, told)
    }

    /// Begins a streamed call: its total deadline runs from here, its request is sent by the first
    /// [`Call::next`].
    pub fn stream(&self, request: &Request) -> Call {
        Call::new(self.clone(), request)
    }

    /// A whole answer: the same call, with its text collected. With a schema, an answer that is cut or
    /// is not JSON is an error of class `schema`.
    pub async fn complete(&self, request: &Request) -> Result<(String, Completion), Error> {
        let mut call = self.stream(request);
        let (mut text, mut end) = (String::new(), None);
        while let Some(piece) = call.next().await? {
            match piece {
                Piece::Text(more) => text.push_str(&more),
                Piece::Restart { .. } => text.clear(),
                Piece::End(completion) => end = Some(completion),
            }
        }
        let completion = end.expect("a call that does not fail ends with its end");
        if request.schema.is_some() {
            expect_json(&text, &completion)?;
        }
        Ok((text, completion))
    }

    /// The ids of the models that the provider offers.
    pub async fn models(&self) -> Result<Vec<String>, Error> {
        let list: wire::Models = self
            .unary(None, async |api| api.models().list_byot().await)
            .await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// A call that does not stream: each try has the first-token deadline for its whole answer. `reel`: where it is
    /// written down.
    pub(crate) async fn unary<T, F>(
        &self,
        reel: Option<Reel>,
        send: impl Fn(Api) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, OpenAIError>>,
    {
        let mut retries = Retries::new(self.settings(), reel);
        loop {
            let limit = Limit::new(
                self.settings().deadlines.first_token,
                Class::FirstToken,
                retries.deadline,
            );
            let heard = retries.begin();
            let api = self.api(Ending::default(), heard);
            let answer = match timeout_at(limit.at, send(api)).await {
                Ok(answer) => answer.map_err(Error::from),
                Err(_) => Err(limit.passed()),
            };
            match answer.and_then(|answer| retries.let_go().map_or(Ok(answer), Err)) {
                Ok(answer) => {
                    retries.answered(Usage::default());
                    return Ok(answer);
                }
                Err(error) => {
                    let again = retries.after(self.seal(error), Usage::default())?;
                    sleep_until(again).await;
                }
            }
        }
    }

    /// Begins to write a call down, where calls are.
    pub(crate) fn reel(&self, request: impl FnOnce() -> Arc<RawValue>) -> Option<Reel> {
        self.tape.as_ref().map(|tape| tape.reel(request()))
    }

    pub(crate) fn api(&self, ending: Ending, heard: Option<Heard>) -> Api {
        let Inner {
            http,
            endpoint,
            settings,
        } = &*self.inner;
        let service = Http {
            client: http.clone(),
            max_answer_bytes: settings.max_answer_bytes,
            ending,
            heard,
        };
        Api::build(http.clone(), Arc::clone(endpoint)).with_http_service(service)
    }

    /// [`Settings::accept_done`].
    #[must_use]
    pub fn accepts_done(&self) -> bool {
        self.inner.settings.accept_done
    }

    /// [`Settings::price`].
    #[must_use]
    pub fn price(&self) -> Option<Price> {
        self.inner.settings.price
    }

    pub(crate) fn cost(&self, usage: &Usage) -> Option<u64> {
        let price = self.price().filter(|_| usage.known)?;
        Some(price.of(usage))
    }

    /// Longest call.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.inner.settings.deadlines.total
    }

    /// What it shows the provider.
    #[must_use]
    pub fn key(&self) -> Option<&SecretString> {
        self.inner.settings.api_key.as_ref()
    }

    pub(crate) fn answers(&self) -> Option<&Answers> {
        self.answers.as_ref()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Makes a failed try's error fit to be shown.
    pub(crate) fn seal(&self, error: Error) -> Error {
        error.sealed(self.inner.settings.api_key.as_ref())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

fn expect_json(text: &str, completion: &Completion) -> Result<(), Error> {
    let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) else {
        return Ok(());
    };
    let message = match completion.finish {
        Finish::Length => "the answer's JSON was cut by the token limit".to_owned(),
        _ => format!(
            "the answer is not JSON ({:?} error at line {} column {})",
            error.classify(),
            error.line(),
            error.column()
        ),
    };
    Err(Error {
        tries: completion.tries,
        ..Error::new(Class::Schema, message)
    })
}
