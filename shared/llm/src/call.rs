//! A streamed call: its pieces, over as many tries as it takes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::traits::RequestOptionsBuilder;
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use crate::attempt::{Attempt, Outcome, Rules, Step};
use crate::limits::{Limit, Retries};
use crate::paid::{self, Answers};
use crate::service::{EVENT_STREAM, Ending};
use crate::{Class, Client, Error, Most, Paid, Pass, Request};

/// A call in flight. Dropping it cancels the HTTP request at once.
#[must_use = "nothing is sent before `next` is awaited"]
pub struct Call {
    client: Client,
    sent: Arc<Sent>,
    model: String,
    retries: Retries,
    /// Where its answer is kept, if it is.
    kept: Option<Kept>,
    /// Text of the present try was given out: a retry must take it back.
    told: bool,
    state: State,
}

/// What a call gives, in order: texts, at times a restart, and one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next part of the answer, never empty.
    Text(String),
    /// The try failed and the answer begins anew: all text so far is void.
    Restart { class: Class },
    /// The answer is whole.
    End(Completion),
}

/// What is known of a whole answer besides its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    pub finish: Finish,
    pub usage: Usage,
    /// What the answer cost, in millionths; none where the price or the usage is not known.
    pub cost: Option<u64>,
    /// The model that answered, by its own name for itself.
    pub model: String,
    /// HTTP requests sent.
    pub tries: u32,
    /// From the start of the call to the first token that counts, reasoning included.
    pub first_token: Duration,
    /// From the start of the call to its end.
    pub elapsed: Duration,
}

/// Why the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The model was done, or met a stop sequence.
    Stop,
    /// `max_tokens` was reached: the answer is cut.
    Length,
    /// A reason that we do not know, or none but `[DONE]` where that is accepted.
    Other,
}

/// Tokens, as the provider counts them; zeros when it told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub prompt: u32,
    /// Of `prompt`, read from the provider's cache.
    pub cached: u32,
    pub completion: u32,
    /// Of `completion`, spent on reasoning.
    pub reasoning: u32,
    /// Whether the provider told.
    pub known: bool,
}

/// The request as every try sends it.
struct Sent {
    body: Arc<RawValue>,
    headers: HeaderMap,
    max_tokens: Option<u32>,
    /// Of the prompt, where somebody counted.
    tokens: Option<u64>,
}

/// An answer in the making that is to be kept.
struct Kept {
    answers: Answers,
    request: String,
    text: String,
    /// It is one that was kept: no provider is asked.
    is_given: bool,
}

/// Every wait is kept here, not in a future of [`Call::next`], so that dropping that one loses nothing.
enum State {
    /// To be sent, at once or at a time.
    Waiting(Option<Instant>),
    /// To be let through, since then.
    Asking(BoxFuture<'static, Result<Pass, Error>>, Instant),
    Opening(BoxFuture<'static, Result<Attempt, Error>>),
    Streaming(Box<Attempt>),
    Over,
}

impl Call {
    pub(crate) fn new(client: Client, request: &Request) -> Self {
        let mut headers = request.labels.headers();
        headers.insert(ACCEPT, HeaderValue::from_static(EVENT_STREAM));
        let body: Arc<RawValue> = request.body().into();
        let mut retries = Retries::new(client.settings(), client.reel(|| Arc::clone(&body)));
        let kept = client.answers().map(|answers| {
            let request = paid::name(&body);
            let given = answers.take(&request);
            let is_given = given.is_some();
            if let Some(paid) = given {
                retries.play(paid, &body);
            }
            Kept {
                answers: answers.clone(),
                request,
                text: String::new(),
                is_given,
            }
        });
        Self {
            model: request.model.clone(),
            retries,
            kept,
            told: false,
            state: State::Waiting(None),
            sent: Arc::new(Sent {
                body,
                headers,
                max_tokens: request.max_tokens,
                tokens: request.tokens,
            }),
            client,
        }
    }

    /// The next piece; none after the end or an error. Cancel-safe: a dropped `next` loses no text and
    /// sends nothing twice, so it may stand in a `select!`.
    pub async fn next(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            let (failure, usage) = match &mut self.state {
                State::Waiting(until) => {
                    if let Some(until) = until {
                        sleep_until(*until).await;
                    }
                    self.ask();
                    continue;
                }
                State::Asking(asking, since) => match asking.await {
                    Ok(pass) => {
                        let waited = since.elapsed();
                        self.retries.let_through(pass, waited);
                        self.open();
                        continue;
                    }
                    Err(refused) => {
                        self.state = State::Over;
                        return Err(self.retries.refused(refused));
                    }
                },
                State::Opening(opening) => match opening.await {
                    Ok(attempt) => {
                        self.state = State::Streaming(Box::new(attempt));
                        continue;
                    }
                    Err(failure) => (failure, Usage::default()),
                },
                State::Streaming(attempt) => match attempt.next().await {
                    Ok(Step::Text(text)) => {
                        self.told = true;
                        if let Some(kept) = &mut self.kept {
                            kept.text.push_str(&text);
                        }
                        return Ok(Some(Piece::Text(text)));
                    }
                    Ok(Step::Ended(outcome)) => match self.retries.let_go() {
                        Some(failure) => (failure, outcome.usage),
                        None => return Ok(Some(Piece::End(self.end(outcome)))),
                    },
                    Err(failure) => (failure, attempt.usage),
                },
                State::Over => return Ok(None),
            };
            if let Some(restart) = self.failed(failure, usage)? {
                return Ok(Some(restart));
            }
        }
    }

    /// Asks for leave to send the next request, where somebody gives it.
    fn ask(&mut self) {
        if self.kept.as_ref().is_some_and(|kept| kept.is_given) {
            return self.open();
        }
        let most = Most::of(self.sent.body.get(), self.sent.tokens, self.sent.max_tokens);
        match self.client.gate().ask(most) {
            Some(asking) => {
                self.retries.ask();
                self.state = State::Asking(asking, Instant::now());
            }
            None => self.open(),
        }
    }

    fn open(&mut self) {
        let client = self.client.clone();
        let sent = Arc::clone(&self.sent);
        let settings = client.settings();
        let rules = Rules {
            stall: settings.deadlines.stall,
            deadline: self.retries.deadline,
            accept_done: settings.accept_done,
        };
        let limit = Limit::new(
            settings.deadlines.first_token,
            Class::FirstToken,
            rules.deadline,
        );
        let heard = self.retries.begin();
        self.state = State::Opening(Box::pin(async move {
            let ending = Ending::default();
            let api = client.api(ending.clone(), heard);
            let chat = api.chat().headers(sent.headers.clone());
            match timeout_at(limit.at, chat.create_stream_byot(&sent.body)).await {
                Ok(frames) => Ok(Attempt::new(frames?, ending, limit, rules)),
                Err(_) => Err(limit.passed()),
            }
        }));
    }

    /// Ends the try, and the call unless it is tried again. The restart is told before the wait.
    fn failed(&mut self, failure: Error, usage: Usage) -> Result<Option<Piece>, Error> {
        self.state = State::Over;
        if let Some(kept) = &mut self.kept {
            kept.text.clear();
        }
        let class = failure.class;
        let again = self.retries.after(self.client.seal(failure), usage)?;
        self.state = State::Waiting(Some(again));
        Ok(std::mem::take(&mut self.told).then_some(Piece::Restart { class }))
    }

    fn end(&mut self, outcome: Outcome) -> Completion {
        self.state = State::Over;
        self.retries.answered(outcome.usage);
        let (now, started) = (Instant::now(), self.retries.started);
        let mut completion = Completion {
            finish: outcome.finish,
            usage: outcome.usage,
            cost: self.client.cost(&outcome.usage),
            model: outcome
                .model
                .map_or_else(|| self.model.clone(), |name| name.0.as_ref().to_owned()),
            tries: self.retries.tries,
            first_token: outcome.first.unwrap_or(now) - started,
            elapsed: now - started,
        };
        // The call is written down here, not when whoever made it lets go of it.
        if let Some(mut reel) = self.retries.reel.take() {
            reel.whole(&mut completion);
        }
        if let Some(kept) = self.kept.take().filter(|kept| !kept.is_given) {
            let paid = Paid::new(kept.request, kept.text, &completion);
            kept.answers.tell(paid);
        }
        debug!(
            tries = completion.tries,
            model = completion.model,
            finish = ?completion.finish,
            tokens_in = completion.usage.prompt,
            tokens_out = completion.usage.completion,
            ttft_ms = completion.first_token.as_millis(),
            ms = completion.elapsed.as_millis(),
            "the model answered"
        );
        completion
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("model", &self.model)
            .field("tries", &self.retries.tries)
            .finish_non_exhaustive()
    }
}
