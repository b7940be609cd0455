//! A streamed call: its pieces, over as many tries as it takes.

use std::fmt;
use std::sync::Arc;

use async_openai::traits::RequestOptionsBuilder;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;

use crate::attempt::{Attempt, Outcome, Rules, Step};
use crate::chain::Sent;
use crate::gate::Asking;
use crate::limits::{Limit, Retries};
use crate::paid::{self, Answers};
use crate::service::Ending;
use crate::{
    Asked, Class, Client, Completion, Error, Leave, Most, Paid, Pass, Piece, Request, Usage,
};

/// A call in flight. Dropping it cancels the HTTP request at once.
#[must_use = "nothing is sent before `next` is awaited"]
pub struct Call {
    client: Client,
    /// What another model would be asked, where there is one.
    request: Option<Request>,
    /// The place of the model that is asked.
    line: usize,
    sent: Arc<Sent>,
    retries: Retries,
    /// Where its answer is kept, if it is.
    kept: Option<Kept>,
    /// Text of the present try was given out: a retry must take it back.
    told: bool,
    state: State,
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
    Asking(Asking, Instant),
    Opening(BoxFuture<'static, Result<Attempt, Error>>),
    Streaming(Box<Attempt>),
    Over,
}

impl Call {
    pub(crate) fn new(client: Client, request: &Request) -> Self {
        let given = given(&client, request);
        let place = given.as_ref().map(|(place, _)| *place);
        let place = place.or_else(|| client.played_line()).unwrap_or(0);
        let line = &client.lines()[place];
        let sent = Arc::new(line.sent(request));
        let mut retries = Retries::new(client.settings());
        let reel = client.reel(place, || Arc::clone(&sent.body));
        retries.go_on(&line.settings, reel);
        let mut kept = client.answers().map(|answers| Kept::new(answers, &sent));
        if let (Some(kept), Some((_, paid))) = (&mut kept, given) {
            kept.is_given = true;
            retries.play(paid, &sent.body);
        }
        Self {
            request: (client.lines().len() > 1).then(|| request.clone()),
            retries,
            kept,
            told: false,
            state: State::Waiting(None),
            line: place,
            sent,
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
                State::Asking(asking, since) => {
                    let leave = asking.await;
                    self.retries.asked(since.elapsed());
                    self.go_ahead(leave)?;
                    continue;
                }
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
                    Err(failure) => {
                        let began = attempt.has_begun();
                        (Error { began, ..failure }, attempt.usage)
                    }
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
        let asked = Asked {
            model: self.line,
            kind: self.retries.kind,
            most: Most::of(self.sent.body.get(), self.sent.tokens, self.sent.max_tokens),
            is_last: self.next_line().is_none(),
        };
        match self.client.gate().ask(asked) {
            Some(asking) => {
                self.retries.ask();
                self.state = State::Asking(asking, Instant::now());
            }
            None => self.open(),
        }
    }

    fn go_ahead(&mut self, leave: Result<Leave, Error>) -> Result<(), Error> {
        self.state = State::Over;
        match (leave, self.next_line()) {
            (Ok(Leave::Go(pass)), _) => self.open_with(pass),
            (Ok(Leave::Next), Some(line)) => self.go_on(line),
            (Ok(Leave::Next), None) => self.open(),
            (Ok(Leave::Stop), _) => return Err(self.retries.stopped()),
            (Err(refused), _) => return Err(self.retries.refused(refused)),
        }
        Ok(())
    }

    fn open_with(&mut self, pass: Pass) {
        self.retries.let_through(pass);
        self.open();
    }

    fn open(&mut self) {
        let line = Arc::clone(&self.client.lines()[self.line]);
        let sent = Arc::clone(&self.sent);
        let rules = Rules {
            stall: line.settings.deadlines.stall,
            deadline: self.retries.deadline,
            accept_done: line.settings.accept_done,
        };
        let limit = Limit::new(
            line.settings.deadlines.first_token,
            Class::FirstToken,
            rules.deadline,
        );
        let heard = self.retries.begin();
        self.state = State::Opening(Box::pin(async move {
            let ending = Ending::default();
            let api = line.api(ending.clone(), heard);
            let chat = api.chat().headers(sent.headers.clone());
            match timeout_at(limit.at, chat.create_stream_byot(&sent.body)).await {
                Ok(frames) => Ok(Attempt::new(frames?, ending, limit, rules)),
                Err(_) => Err(limit.passed()),
            }
        }));
    }

    /// Ends the try, and the call unless it is tried again, here or elsewhere. The restart is told before the wait.
    fn failed(&mut self, failure: Error, usage: Usage) -> Result<Option<Piece>, Error> {
        self.state = State::Over;
        if let Some(kept) = &mut self.kept {
            kept.text.clear();
        }
        let class = failure.class;
        let failure = Error {
            place: self.line,
            began: failure.began || self.told,
            ..self.client.seal(failure)
        };
        if let Some(line) = self.elsewhere(class) {
            self.retries.moves(failure, usage);
            self.go_on(line);
        } else {
            let again = self.retries.after(failure, usage)?;
            self.state = State::Waiting(Some(again));
        }
        Ok(std::mem::take(&mut self.told).then_some(Piece::Restart { class }))
    }

    /// The place of the model that answers what this one failed at: one that is played is the one that was asked then.
    fn elsewhere(&self, class: Class) -> Option<usize> {
        match self.retries.moves_as_played() {
            Some(true) => self.client.played_line().filter(|line| *line > self.line),
            Some(false) => None,
            None => self.next_line().filter(|_| class.elsewhere()),
        }
    }

    /// The place of the next model that may hold what is asked.
    fn next_line(&self) -> Option<usize> {
        let request = self.request.as_ref()?;
        let mut lines = self.client.lines().iter().enumerate().skip(self.line + 1);
        let next = lines.find(|(_, line)| line.holds(request));
        next.map(|(place, _)| place)
    }

    /// Asks the model at this place from here.
    fn go_on(&mut self, place: usize) {
        let line = &self.client.lines()[place];
        if let Some(request) = &self.request {
            self.sent = Arc::new(line.sent(request));
        }
        if let Some(kept) = &mut self.kept {
            *kept = Kept::new(&kept.answers, &self.sent);
        }
        let reel = self.client.reel(place, || Arc::clone(&self.sent.body));
        self.retries.go_on(&line.settings, reel);
        self.line = place;
        self.state = State::Waiting(None);
    }

    fn end(&mut self, outcome: Outcome) -> Completion {
        self.state = State::Over;
        self.retries.answered(outcome.usage);
        let (now, started) = (Instant::now(), self.retries.started);
        let mut completion = Completion {
            finish: outcome.finish,
            usage: outcome.usage,
            cost: self.client.lines()[self.line].cost(&outcome.usage),
            model: outcome.model.map_or_else(
                || self.sent.model.clone(),
                |name| name.0.as_ref().to_owned(),
            ),
            place: self.line,
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

/// An answer that was given for what one of the models would be asked, and the place of that model.
fn given(client: &Client, request: &Request) -> Option<(usize, Paid)> {
    let answers = client.answers().filter(|answers| answers.are_given())?;
    let mut lines = client.lines().iter().enumerate();
    lines.find_map(|(place, line)| {
        let paid = answers.take(&paid::name(&line.sent(request).body))?;
        Some((place, paid))
    })
}

impl Kept {
    fn new(answers: &Answers, sent: &Sent) -> Self {
        Self {
            answers: answers.clone(),
            request: paid::name(&sent.body),
            text: String::new(),
            is_given: false,
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("model", &self.sent.model)
            .field("tries", &self.retries.tries)
            .finish_non_exhaustive()
    }
}
