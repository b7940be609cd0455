//! How long a call waits for what, and whether and when it tries again. `backoff` is the source of
//! delays only: its own retry loop never stops once an error carries a Retry-After.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::debug;

use crate::class::Retry;
use crate::tape::{Heard, Reel, Tape};
use crate::{Class, Ended, Error, Kind, Observer, Paid, Pass, Price, Settings, Usage};

/// Until when something must come, and what it means if it does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) at: Instant,
    class: Class,
}

impl Limit {
    /// `wait` from now, but never past the call's deadline.
    pub(crate) fn new(wait: Duration, class: Class, deadline: Instant) -> Self {
        match Instant::now().checked_add(wait) {
            Some(at) if at < deadline => Self { at, class },
            _ => Self {
                at: deadline,
                class: Class::Deadline,
            },
        }
    }

    pub(crate) fn passed(&self) -> Error {
        Error::new(self.class, self.class.row().meaning)
    }
}

/// How far apart those come back at most who were all told to wait for the same time.
const APART: Duration = Duration::from_secs(1);
/// Between two tries that count.
const LONGEST: Duration = Duration::from_secs(8);
/// How far a backoff may be from its interval, as a part of it.
const JITTER: f64 = 0.5;

/// The retries of one call.
#[derive(Debug)]
pub(crate) struct Retries {
    pub(crate) started: Instant,
    /// When the call is over, whatever happens.
    pub(crate) deadline: Instant,
    /// Tries begun, of every kind.
    pub(crate) tries: u32,
    /// Counted tries that may still follow.
    left: u32,
    delays: ExponentialBackoff,
    /// What is left of it.
    patience: Duration,
    /// While the provider is not reached: when it is tried next.
    away: Option<Instant>,
    /// While it is not: shorter ones, since nothing is asked of it and the answer waits for its return.
    away_delays: ExponentialBackoff,
    observer: Observer,
    price: Option<Price>,
    /// Which try the next one is to whoever gives leave.
    pub(crate) kind: Kind,
    /// What failed last, where another try follows.
    failure: Option<Error>,
    /// The leave for the try that is under way.
    pass: Option<Pass>,
    /// The answer is one that was paid for: nothing is sent, and nothing costs.
    free: bool,
    /// A try began, or was asked for.
    begun: bool,
    /// It waits for leave.
    asking: bool,
    /// A try is under way.
    sent: bool,
    /// The observer knows its end.
    over: bool,
    /// Where the call is written down, or played from.
    pub(crate) reel: Option<Reel>,
}

impl Retries {
    pub(crate) fn new(settings: &Settings) -> Self {
        let started = Instant::now();
        Self {
            started,
            deadline: started + settings.deadlines.total,
            tries: 0,
            left: settings.max_tries.saturating_sub(1),
            delays: delays(LONGEST),
            patience: settings.deadlines.patience,
            away: None,
            away_delays: delays(Duration::from_secs(1)),
            observer: settings.observer.clone(),
            price: settings.price,
            kind: Kind::First,
            failure: None,
            pass: None,
            free: false,
            begun: false,
            asking: false,
            sent: false,
            over: false,
            reel: None,
        }
    }

    /// The answer is one that was paid for.
    pub(crate) fn play(&mut self, paid: Paid, request: &Arc<RawValue>) {
        self.free = true;
        let reel = || Tape::default().reel(0, Arc::clone(request));
        self.reel.get_or_insert_with(reel).give(paid.played());
    }

    /// A try begins.
    pub(crate) fn begin(&mut self) -> Option<Heard> {
        let heard = self.reel.as_mut().map(Reel::begin);
        // One that is played may be one that was never sent.
        let is_unsent = heard.as_ref().is_some_and(Heard::is_unsent);
        self.tries += u32::from(!is_unsent);
        self.sent = !self.free && !is_unsent;
        self.begun = true;
        heard
    }

    /// The next try may be sent.
    pub(crate) fn let_through(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    /// It is known what becomes of the next try. The wait for that is none of the call's time.
    pub(crate) fn asked(&mut self, waited: Duration) {
        self.asking = false;
        self.started += waited;
        self.deadline += waited;
    }

    /// The next try waits for leave.
    pub(crate) fn ask(&mut self) {
        self.begun = true;
        self.asking = true;
    }

    /// No retry is made: the call is over, as its last try was.
    pub(crate) fn stopped(&mut self) -> Error {
        let failure = self.failure.take();
        let none = || Error::new(Class::Internal, "no try of the call was let through");
        self.refused(failure.unwrap_or_else(none))
    }

    /// No further try may be sent: the call is over.
    pub(crate) fn refused(&mut self, mut why: Error) -> Error {
        if let Some(reel) = &mut self.reel {
            reel.unsent(&why);
        }
        self.ended(Some(&why), Usage::default(), true);
        why.tries = self.tries;
        why
    }

    /// See [`Reel::let_go`].
    pub(crate) fn let_go(&self) -> Option<Error> {
        self.reel.as_ref()?.let_go()
    }

    /// The try gave a whole answer, and the call is over.
    pub(crate) fn answered(&mut self, usage: Usage) {
        self.ended(None, usage, true);
    }

    fn ended(&mut self, failed: Option<&Error>, usage: Usage, last: bool) {
        self.over = last;
        let usage = if self.free { Usage::default() } else { usage };
        if let Some(pass) = self.pass.take() {
            pass.end(failed, usage);
        }
        self.observer.tell(Ended {
            sent: std::mem::take(&mut self.sent),
            failed: failed.map(|error| error.class),
            usage,
            cost: self.price.map(|price| price.of(&usage)),
            call: last.then(|| self.started.elapsed()),
        });
    }

    /// See [`Reel::moves`].
    pub(crate) fn moves_as_played(&self) -> Option<bool> {
        self.reel.as_ref()?.moves()
    }

    /// The try failed, and another model is asked: see [`Retries::go_on`].
    pub(crate) fn moves(&mut self, failure: Error, usage: Usage) {
        if let Some(reel) = &mut self.reel {
            reel.failed(&failure);
            reel.moved();
        }
        self.ended(Some(&failure), usage, false);
        debug!(
            tries = self.tries,
            class = failure.class.as_str(),
            status = failure.status,
            "a model failed: asking another one"
        );
        self.kind = Kind::Fallback;
        self.failure = Some(failure);
    }

    /// Another model is asked from here, within the same deadline.
    pub(crate) fn go_on(&mut self, settings: &Settings, reel: Option<Reel>) {
        // What was written down of the model before comes first.
        self.reel = None;
        self.reel = reel;
        self.left = settings.max_tries.saturating_sub(1);
        self.delays = delays(LONGEST);
        self.patience = settings.deadlines.patience;
        self.away = None;
        self.away_delays.reset();
        self.observer = settings.observer.clone();
        self.price = settings.price;
    }

    /// When to try again after `failure`. To give up is to get it back, with the tries it took: at
    /// once, too, when the wait would pass the deadline. `usage` is what was told of the try's cost.
    pub(crate) fn after(&mut self, mut failure: Error, usage: Usage) -> Result<Instant, Error> {
        let again = match self.reel.as_ref().and_then(Reel::goes_on) {
            Some(goes_on) => (goes_on && failure.class.retry() != Retry::Never).then(Instant::now),
            None => self.next_try(&failure),
        };
        if let Some(reel) = &mut self.reel {
            reel.failed(&failure);
        }
        self.ended(Some(&failure), usage, again.is_none());
        debug!(
            tries = self.tries,
            class = failure.class.as_str(),
            status = failure.status,
            wait_ms = again.map(|at| (at - Instant::now()).as_millis()),
            "a try failed"
        );
        failure.tries = self.tries;
        let Some(again) = again else {
            return Err(failure);
        };
        self.kind = match failure.class.retry() {
            Retry::Counted => Kind::Retry,
            _ => Kind::Free,
        };
        self.failure = Some(failure);
        Ok(again)
    }

    fn next_try(&mut self, failure: &Error) -> Option<Instant> {
        match failure.class.retry() {
            Retry::Never => return None,
            Retry::Patient => return self.when_back(),
            Retry::Counted => self.left = self.left.checked_sub(1)?,
            Retry::Free => {}
        }
        self.away = None;
        self.away_delays.reset();
        let interval = self.delays.current_interval;
        let own = self.delays.next_backoff()?;
        // Never before the time asked for, and not together: many calls are told the same.
        let asked = failure.retry_after.unwrap_or_default();
        let chance = own.div_duration_f64(interval) - (1.0 - JITTER);
        let apart = interval.min(APART).mul_f64(chance.clamp(0.0, 1.0));
        let delay = asked.checked_add(apart)?.max(own);
        Instant::now()
            .checked_add(delay)
            .filter(|at| *at < self.deadline)
    }

    /// Every wait, and every try for a connection that followed one, is taken from the patience of the call: it is not
    /// had again with each counted try.
    fn when_back(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let tried = self.away.map_or(Duration::ZERO, |at| now - at);
        let delay = self.away_delays.next_backoff()?;
        self.patience = self.patience.checked_sub(tried + delay)?;
        let at = now.checked_add(delay)?;
        self.away = Some(at);
        (at < self.deadline).then_some(at)
    }
}

/// A call that was begun and is given up by its caller.
impl Drop for Retries {
    fn drop(&mut self) {
        if self.begun && !self.over {
            let cancelled = Error::new(Class::Cancelled, Class::Cancelled.row().meaning);
            match &mut self.reel {
                Some(reel) if self.asking => reel.unsent(&cancelled),
                Some(reel) => reel.failed(&cancelled),
                None => {}
            }
            self.ended(Some(&cancelled), Usage::default(), true);
        }
    }
}

fn delays(longest: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(250))
        .with_multiplier(2.0)
        .with_randomization_factor(JITTER)
        .with_max_interval(longest)
        .with_max_elapsed_time(None)
        .build()
}
