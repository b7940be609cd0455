//! The client: the models that it asks over pooled connections, and the calls that can be made with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::error::OpenAIError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at};

use crate::chain::{Api, Line, Manner, Model};
use crate::limits::{Limit, Retries};
use crate::paid::Answers;
use crate::service::Ending;
use crate::tape::{Reel, Tape};
use crate::{
    Bought, Call, Class, Completion, Error, Gate, Paid, Piece, Price, Recorded, Request, Settings,
    Usage, wire,
};

/// Makes calls to one model, or to others in its place where it fails. Clones share the connections.
#[derive(Clone)]
pub struct Client {
    /// At least one, in the order in which they are asked.
    lines: Arc<[Arc<Line>]>,
    tape: Option<Tape>,
    gate: Gate,
    answers: Option<Answers>,
}

impl Client {
    /// Of one model. Fails if the settings cannot work; nothing is sent yet.
    ///
    /// Proxy variables of the environment are not followed, nor are redirects: the base URL is where
    /// prompts and key go, and nowhere else. HTTP/1.1 on kept connections, one per call in flight.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        Self::chain(Model::new(settings), Vec::new())
    }

    /// Of several: streamed calls that `first` fails are answered by the first of `then` that does not. Its total deadline is
    /// the call's, and what does not stream is asked of it alone.
    ///
    /// # Errors
    /// As with [`Client::new`].
    pub fn chain(first: Model, then: Vec<Model>) -> Result<Self, Error> {
        let http = http(first.settings.deadlines.connect)?;
        let lines = std::iter::once(first).chain(then);
        let lines = lines.map(|mut model| {
            let key = model.settings.api_key.take();
            model.settings.api_key = key.filter(|key| !key.expose_secret().is_empty());
            Line::new(http.clone(), model).map(Arc::new)
        });
        Ok(Self {
            lines: lines.collect::<Result<_, _>>()?,
            tape: None,
            gate: Gate::default(),
            answers: None,
        })
    }

    /// A client with another key for the model at this place, on the same connections; calls of this one keep its own.
    ///
    /// # Errors
    /// When HTTP forbids the key.
    pub fn with_key(&self, place: usize, key: SecretString) -> Result<Self, Error> {
        let line = &self.lines[place];
        let model = Model {
            settings: Settings {
                api_key: Some(key).filter(|key| !key.expose_secret().is_empty()),
                ..line.settings.clone()
            },
            manner: line.manner.clone(),
        };
        let mut lines = self.lines.to_vec();
        lines[place] = Arc::new(Line::new(line.http.clone(), model)?);
        Ok(Self {
            lines: lines.into(),
            tape: None,
            gate: Gate::default(),
            answers: None,
        })
    }

    /// The same client; its calls are written down.
    #[must_use]
    pub fn taped(&self) -> (Self, Tape) {
        self.with(Tape::without(self.keys().cloned().collect()))
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

    /// A whole answer: the same call, with its text collected. With a schema it is [`crate::read`] that tells whether it
    /// is kept.
    pub async fn answer(&self, request: &Request) -> Result<(String, Completion), Error> {
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
        Ok((text, completion))
    }

    /// The ids of the models that the provider of the model at this place offers.
    pub async fn models(&self, place: usize) -> Result<Vec<String>, Error> {
        let list: wire::Models = self
            .unary(place, None, async |api| api.models().list_byot().await)
            .await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// A call of the model at this place that does not stream: each try has the first-token deadline for its whole answer.
    /// `reel`: where it is written down.
    pub(crate) async fn unary<T, F>(
        &self,
        place: usize,
        reel: Option<Reel>,
        send: impl Fn(Api) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, OpenAIError>>,
    {
        let line = &self.lines[place];
        let mut retries = Retries::new(&line.settings);
        retries.reel = reel;
        loop {
            let limit = Limit::new(
                line.settings.deadlines.first_token,
                Class::FirstToken,
                retries.deadline,
            );
            let heard = retries.begin();
            let api = line.api(Ending::default(), heard);
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

    /// Begins to write down what a call asks of the model at this place, where calls are written down.
    pub(crate) fn reel(
        &self,
        line: usize,
        request: impl FnOnce() -> Arc<RawValue>,
    ) -> Option<Reel> {
        let tape = self.tape.as_ref()?;
        Some(tape.reel(line, request()))
    }

    /// [`Settings::accept_done`] of the first model.
    #[must_use]
    pub fn accepts_done(&self) -> bool {
        self.settings().accept_done
    }

    /// [`Settings::price`] of the first model.
    #[must_use]
    pub fn price(&self) -> Option<Price> {
        self.settings().price
    }

    /// [`Settings::base_url`] of each model.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .map(|line| line.settings.base_url.as_str())
    }

    /// How each model is asked, and what it costs.
    pub fn manners(&self) -> impl Iterator<Item = (&Manner, Option<Price>)> {
        let lines = self.lines.iter();
        lines.map(|line| (&line.manner, line.settings.price))
    }

    /// Longest call.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.settings().deadlines.total
    }

    /// What it shows the provider of the model at this place.
    #[must_use]
    pub fn key(&self, place: usize) -> Option<&SecretString> {
        self.lines[place].settings.api_key.as_ref()
    }

    fn keys(&self) -> impl Iterator<Item = &SecretString> {
        let keys = self.lines.iter().map(|line| line.settings.api_key.as_ref());
        keys.flatten()
    }

    pub(crate) fn answers(&self) -> Option<&Answers> {
        self.answers.as_ref()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn lines(&self) -> &[Arc<Line>] {
        &self.lines
    }

    /// The place of the model that is asked next, where what is played tells.
    pub(crate) fn played_line(&self) -> Option<usize> {
        let line = self.tape.as_ref()?.next_line()?;
        Some(line.min(self.lines.len() - 1))
    }

    fn first(&self) -> &Arc<Line> {
        &self.lines[0]
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.first().settings
    }

    /// Makes a failed try's error fit to be shown.
    pub(crate) fn seal(&self, error: Error) -> Error {
        error.sealed(self.keys())
    }
}

/// The connections of a client.
fn http(connect: Duration) -> Result<reqwest::Client, Error> {
    reqwest::Client::builder()
        .user_agent(concat!("storyfleet/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
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
        })
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("settings", self.settings())
            .finish_non_exhaustive()
    }
}
