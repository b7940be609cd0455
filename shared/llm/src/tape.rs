//! Writes calls down while they run, and plays those that were written down in the provider's place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use reqwest::{Body, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use crate::recorded::{Answer, Failed, Recorded, Took, Try};
use crate::{Class, Completion, Error, Text};

/// Bytes of a short answer.
const BODY: usize = 4 * 1024;

/// The headers of an answer that mean something to a call.
const HEADERS: [&str; 4] = ["content-type", "retry-after", "retry-after-ms", "location"];

/// What was asked through a [`Client`](crate::Client) and what came of it, in the order in which the calls ended.
#[derive(Debug, Clone, Default)]
pub struct Tape(Arc<Reels>);

#[derive(Debug, Default)]
struct Reels {
    /// Are in none of them, whatever a provider repeats.
    keys: Vec<SecretString>,
    recorded: Mutex<Vec<Recorded>>,
    script: Option<Script>,
}

/// What is played in a provider's place.
#[derive(Debug)]
struct Script {
    /// The calls that are still to be played.
    calls: Mutex<VecDeque<Recorded>>,
    /// How many times as fast as it went; 0 = at once.
    speed: f64,
    /// What was asked when nothing was left to answer it with.
    unanswered: Mutex<Vec<Box<RawValue>>>,
}

impl Tape {
    /// Writes calls down, without these keys.
    pub(crate) fn without(keys: Vec<SecretString>) -> Self {
        Self(Arc::new(Reels {
            keys,
            ..Reels::default()
        }))
    }

    pub(crate) fn playing(calls: Vec<Recorded>, speed: f64) -> Self {
        let script = Script {
            calls: Mutex::new(calls.into()),
            speed,
            unanswered: Mutex::default(),
        };
        Self(Arc::new(Reels {
            script: Some(script),
            ..Reels::default()
        }))
    }

    /// The calls that ended since this was asked last.
    #[must_use]
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut lock(&self.0.recorded))
    }

    /// The requests that what is played had no answer to.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Box<RawValue>> {
        let script = self.0.script.as_ref();
        script.map_or_else(Vec::new, |script| lock(&script.unanswered).clone())
    }

    /// The place of the model that the next call to be played asked.
    pub(crate) fn next_line(&self) -> Option<usize> {
        let calls = lock(&self.0.script.as_ref()?.calls);
        calls.front().map(|call| call.line)
    }

    /// Begins to write down what a call asks of the model at this place.
    pub(crate) fn reel(&self, line: usize, request: Arc<RawValue>) -> Reel {
        Reel {
            tape: self.clone(),
            started: Instant::now(),
            request,
            line,
            moved: false,
            moves: false,
            tries: Vec::new(),
            took: None,
            to_play: None,
        }
    }
}

impl Script {
    /// The next call, whatever it was asked.
    fn next(&self, request: &RawValue) -> Recorded {
        lock(&self.calls).pop_front().unwrap_or_else(|| {
            lock(&self.unanswered).push(request.to_owned());
            Recorded::unanswered(request.to_owned())
        })
    }
}

/// One call while it runs.
#[derive(Debug)]
pub(crate) struct Reel {
    tape: Tape,
    started: Instant,
    request: Arc<RawValue>,
    line: usize,
    /// Another model was asked when this one had failed.
    moved: bool,
    /// The same of what is played.
    moves: bool,
    tries: Vec<(u64, Heard, Option<Failed>)>,
    /// The tries that are still to be played; `None` while a provider answers.
    to_play: Option<VecDeque<Try>>,
    took: Option<Took>,
}

impl Reel {
    /// A try begins.
    pub(crate) fn begin(&mut self) -> Heard {
        let script = self.tape.0.script.as_ref();
        let begins = self.tries.is_empty() && self.to_play.is_none();
        if let (Some(script), true) = (script, begins) {
            let call = script.next(&self.request);
            (self.took, self.moves) = (call.took, call.moved);
            self.to_play = Some(call.tries.into());
        }
        let played = self.to_play.as_mut().and_then(VecDeque::pop_front);
        let at = played
            .as_ref()
            .map_or_else(|| millis(self.started.elapsed()), |played| played.at);
        let heard = Heard(Arc::new(Hearing {
            started: Instant::now(),
            answer: Mutex::default(),
            speed: script.map_or(0.0, |script| script.speed),
            unsent: AtomicBool::new(played.as_ref().is_some_and(|played| played.unsent)),
            played,
        }));
        self.tries.push((at, heard.clone(), None));
        heard
    }

    /// What answers the call, in the place of a provider.
    pub(crate) fn give(&mut self, answer: Try) {
        self.to_play = Some([answer].into());
    }

    /// A try that was never sent ends.
    pub(crate) fn unsent(&mut self, error: &Error) {
        let heard = self.begin();
        heard.0.unsent.store(true, Ordering::Relaxed);
        self.failed(error);
    }

    /// The try that began last failed.
    pub(crate) fn failed(&mut self, error: &Error) {
        if let Some((_, _, failed)) = self.tries.last_mut() {
            *failed = Some(Failed {
                class: error.class,
                message: error.message.clone(),
            });
        }
    }

    /// Another model is asked.
    pub(crate) fn moved(&mut self) {
        self.moved = true;
    }

    /// Whether another model is asked now, where that was decided when the call was recorded.
    pub(crate) fn moves(&self) -> Option<bool> {
        let tries = self.to_play.as_ref()?;
        Some(self.moves && tries.is_empty())
    }

    /// Whether another try follows, where that was decided when the call was recorded.
    pub(crate) fn goes_on(&self) -> Option<bool> {
        self.to_play.as_ref().map(|tries| !tries.is_empty())
    }

    /// That whoever asked let go of the call in this try, where that is what was recorded: however far its answer had come.
    pub(crate) fn let_go(&self) -> Option<Error> {
        let (_, heard, _) = self.tries.last()?;
        let failed = heard.0.played.as_ref()?.failed.clone()?;
        (failed.class == Class::Cancelled).then(|| failed.into())
    }

    /// A streamed answer is whole: it took as long as it did when it was recorded.
    pub(crate) fn whole(&mut self, completion: &mut Completion) {
        let measured = match self.to_play {
            // What was not whole when it was recorded took no time.
            Some(_) => Took::default(),
            None => Took {
                first_token: millis(completion.first_token),
                whole: millis(completion.elapsed),
            },
        };
        let took = *self.took.get_or_insert(measured);
        completion.first_token = Duration::from_millis(took.first_token);
        completion.elapsed = Duration::from_millis(took.whole);
    }
}

/// The call is over, however it ended. One that was never sent leaves nothing.
impl Drop for Reel {
    fn drop(&mut self) {
        if self.tries.is_empty() {
            return;
        }
        let keys = &self.tape.0.keys;
        let without = |answer: Answer| {
            let keys = keys.iter().map(SecretString::expose_secret);
            keys.fold(answer, Answer::without)
        };
        let tries = self.tries.drain(..).map(|(at, heard, failed)| Try {
            at,
            unsent: heard.is_unsent(),
            answer: heard.answer().map(without),
            failed,
        });
        let recorded = Recorded {
            request: (*self.request).to_owned(),
            line: self.line,
            tries: tries.collect(),
            moved: self.moved,
            took: self.took,
        };
        lock(&self.tape.0.recorded).push(recorded);
    }
}

/// One try while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Heard(Arc<Hearing>);

#[derive(Debug)]
struct Hearing {
    started: Instant,
    answer: Mutex<Option<Answer>>,
    played: Option<Try>,
    speed: f64,
    unsent: AtomicBool,
}

impl Heard {
    /// An answer begins.
    pub(crate) fn status(&self, answer: &Response) {
        let headers = HEADERS.iter().filter_map(|name| {
            let value = answer.headers().get(*name)?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        });
        *lock(&self.0.answer) = Some(Answer {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: Text(Vec::with_capacity(BODY)),
            ..Answer::default()
        });
    }

    /// A piece of its body came.
    pub(crate) fn piece(&self, bytes: &Bytes) {
        if let Some(answer) = &mut *lock(&self.0.answer) {
            answer.body.0.extend_from_slice(bytes);
            answer
                .pieces
                .push((millis(self.0.started.elapsed()), bytes.len()));
        }
    }

    /// Its body is over.
    pub(crate) fn ended(&self) {
        if let Some(answer) = &mut *lock(&self.0.answer) {
            answer.ended = true;
        }
    }

    fn answer(&self) -> Option<Answer> {
        lock(&self.0.answer).take()
    }

    /// Whether it is one that waited for leave and was never sent.
    pub(crate) fn is_unsent(&self) -> bool {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Whether a recording answers.
    pub(crate) fn plays(&self) -> bool {
        self.0.played.is_some()
    }

    /// What is played in the place of an answer; `None` while a provider answers.
    pub(crate) fn play(&self) -> Option<Result<Response, Error>> {
        let played = self.0.played.as_ref()?;
        let failed = played.failed.clone().map(Error::from);
        let Some(answer) = &played.answer else {
            return Some(Err(failed.unwrap_or_else(Error::unplayable)));
        };
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        let body = Body::wrap_stream(self.clone().pieces(failed.filter(|_| !answer.ended)));
        let response = response.body(body).map(Response::from);
        Some(response.map_err(|_| Error::unplayable()))
    }

    /// The body piece by piece, then what broke it off.
    fn pieces(self, failed: Option<Error>) -> impl Stream<Item = Result<Bytes, Error>> {
        let answer = self
            .0
            .played
            .as_ref()
            .and_then(|played| played.answer.clone())
            .unwrap_or_default();
        let (mut body, speed, started) = (Bytes::from(answer.body.0), self.0.speed, self.0.started);
        let pieces = stream::iter(answer.pieces).then(move |(at, length)| {
            let piece = body.split_to(length.min(body.len()));
            async move {
                if let Some(at) = due(started, at, speed) {
                    sleep_until(at).await;
                }
                Ok(piece)
            }
        });
        pieces.chain(stream::iter(failed.map(Err)))
    }
}

/// When what came `ms` after the start comes, so many times as fast; none: at once, or never in anybody's life.
fn due(started: Instant, ms: u64, speed: f64) -> Option<Instant> {
    let after =
        Duration::try_from_secs_f64(Duration::from_millis(ms).as_secs_f64() / speed).ok()?;
    started.checked_add(after)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
