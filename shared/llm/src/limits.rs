//! How long a call waits for what, and whether and when it tries again. `backoff` is the source of
//! delays only: its own retry loop never stops once an error carries a Retry-After.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::time::Instant;
use tracing::debug;

use crate::class::Retry;
use crate::{Class, Ended, Error, Observer, Settings, Usage};

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
    /// A try is under way.
    sent: bool,
    /// The observer knows its end.
    over: bool,
}

impl Retries {
    pub(crate) fn new(settings: &Settings) -> Self {
        let started = Instant::now();
        Self {
            started,
            deadline: started + settings.deadlines.total,
            tries: 0,
            left: settings.max_tries.saturating_sub(1),
            delays: delays(Duration::from_secs(8)),
            patience: settings.deadlines.patience,
            away: None,
            away_delays: delays(Duration::from_secs(1)),
            observer: settings.observer.clone(),
            sent: false,
            over: false,
        }
    }

    /// A try begins.
    pub(crate) fn begin(&mut self) {
        self.tries += 1;
        self.sent = true;
    }

    /// The try gave a whole answer, and the call is over.
    pub(crate) fn answered(&mut self, usage: Usage) {
        self.ended(None, usage, true);
    }

    fn ended(&mut self, failed: Option<Class>, usage: Usage, last: bool) {
        self.over = last;
        self.observer.tell(Ended {
            sent: std::mem::take(&mut self.sent),
            failed,
            usage,
            call: last.then(|| self.started.elapsed()),
        });
    }

    /// When to try again after `failure`. To give up is to get it back, with the tries it took: at
    /// once, too, when the wait would pass the deadline. `usage` is what was told of the try's cost.
    pub(crate) fn after(&mut self, mut failure: Error, usage: Usage) -> Result<Instant, Error> {
        let again = self.next_try(&failure);
        self.ended(Some(failure.class), usage, again.is_none());
        debug!(
            tries = self.tries,
            class = failure.class.as_str(),
            status = failure.status,
            wait_ms = again.map(|at| (at - Instant::now()).as_millis()),
            "a try failed"
        );
        failure.tries = self.tries;
        again.ok_or(failure)
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
        if self.tries > 0 && !self.over {
            self.ended(Some(Class::Cancelled), Usage::default(), true);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Deadlines;

    fn retries(total: u64, max_tries: u32) -> Retries {
        let deadlines = Deadlines {
            total: Duration::from_secs(total),
            ..Deadlines::default()
        };
        Retries::new(&Settings {
            deadlines,
            max_tries,
            ..Settings::default()
        })
    }

    fn failure(class: Class) -> Error {
        Error::new(class, "x")
    }

    impl Retries {
        fn fails(&mut self, class: Class) -> Result<Instant, Error> {
            self.after(failure(class), Usage::default())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counted_tries_end_at_the_limit() {
        let mut retries = retries(90, 3);
        assert!(retries.fails(Class::Provider).is_ok());
        assert!(retries.fails(Class::Stall).is_ok());
        assert!(retries.fails(Class::Provider).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_and_jitter_within_half() {
        let mut retries = retries(90, 10);
        for nominal in [250, 500, 1000, 2000, 4000, 8000, 8000] {
            let delay = retries.fails(Class::Provider).unwrap() - Instant::now();
            let (least, most) = (
                Duration::from_millis(nominal / 2),
                Duration::from_millis(nominal * 3 / 2 + 1),
            );
            assert!(
                (least..=most).contains(&delay),
                "{delay:?} around {nominal} ms"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rate_limits_cost_no_try_but_end_with_the_deadline() {
        let mut retries = retries(60, 1);
        let started = Instant::now();
        while let Ok(at) = retries.fails(Class::Rate) {
            tokio::time::sleep_until(at).await;
        }
        let elapsed = started.elapsed();
        assert!(
            elapsed < Duration::from_secs(60) && elapsed > Duration::from_secs(45),
            "{elapsed:?}"
        );
    }

    /// How long a provider that is never reached is asked again.
    async fn patience(mut retries: Retries) -> Duration {
        let started = Instant::now();
        while let Ok(at) = retries.fails(Class::Connect) {
            let pause = at - Instant::now();
            assert!(pause <= Duration::from_millis(1_501), "{pause:?}");
            tokio::time::sleep_until(at).await;
        }
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_not_reached_is_waited_for_within_patience_and_deadline() {
        for (total, limit) in [(90, 20), (12, 12)] {
            let waited = patience(retries(total, 1)).await;
            let limit = Duration::from_secs(limit);
            assert!(
                waited <= limit && waited > limit - Duration::from_secs(2),
                "{waited:?} of {limit:?}"
            );
        }
        let mut away = retries(90, 2);
        away.patience = Duration::ZERO;
        assert!(away.fails(Class::Connect).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_that_a_provider_is_away_costs_patience() {
        let mut retries = retries(90, 3);
        for _ in 0..2 {
            for _ in 0..4 {
                let at = retries.fails(Class::Connect).unwrap();
                tokio::time::sleep_until(at).await;
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            let _counted = retries.fails(Class::Provider);
        }
        assert_eq!(retries.away, None);
        assert!(retries.fails(Class::Connect).is_ok());
    }

    /// It takes a request, dies of it, and is back when it was not reached twice.
    #[tokio::test(start_paused = true)]
    async fn patience_and_counted_tries_add_up_and_do_not_multiply() {
        for (max_tries, last) in [(3, Class::Truncated), (1000, Class::Connect)] {
            let mut retries = retries(9000, max_tries);
            let (mut sent, mut away) = (0, Duration::ZERO);
            let given_up = 'call: loop {
                for class in [Class::Truncated, Class::Connect, Class::Connect] {
                    sent += u32::from(class == Class::Truncated);
                    let at = match retries.fails(class) {
                        Ok(at) => at,
                        Err(error) => break 'call error,
                    };
                    if class == Class::Connect {
                        away += at - Instant::now();
                    }
                    tokio::time::sleep_until(at).await;
                }
            };
            assert_eq!(given_up.class, last);
            assert!(sent <= max_tries && away <= Duration::from_secs(20));
            match last {
                Class::Connect => assert!(away > Duration::from_secs(19), "{away:?}"),
                _ => assert_eq!(sent, max_tries),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_past_the_deadline_is_not_begun() {
        for asked in [Duration::from_secs(60), Duration::MAX] {
            let told = Error {
                retry_after: Some(asked),
                ..failure(Class::Rate)
            };
            assert_eq!(
                retries(60, 3)
                    .after(told, Usage::default())
                    .unwrap_err()
                    .class,
                Class::Rate
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_told_the_same_wait_come_back_after_it_and_not_together() {
        let asked = Duration::from_secs(20);
        let told = || Error {
            retry_after: Some(asked),
            ..failure(Class::Rate)
        };
        for before in [0, 6] {
            let times: BTreeSet<Instant> = (0..20)
                .map(|_| {
                    let mut retries = retries(90, 3);
                    for _ in 0..before {
                        retries.fails(Class::Rate).unwrap();
                    }
                    retries.after(told(), Usage::default()).unwrap()
                })
                .collect();
            let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
            assert!(last - first > Duration::from_millis(80), "{times:?}");
            assert!(first >= Instant::now() + asked);
            assert!(last <= Instant::now() + asked + APART);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_wait_waits_that_long_or_the_backoff_and_hardly_longer() {
        let mut retries = retries(90, 3);
        for _ in 0..6 {
            let told = Error {
                retry_after: Some(Duration::from_secs(1)),
                ..failure(Class::Rate)
            };
            let own = retries.delays.current_interval * 3 / 2;
            let wait = retries.after(told, Usage::default()).unwrap() - Instant::now();
            assert!(wait <= own.max(Duration::from_secs(2)), "{wait:?} {own:?}");
            assert!(wait >= Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_begun_and_dropped_is_counted_once() {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let tells = std::sync::Arc::clone(&seen);
        let settings = Settings {
            observer: Observer::new(move |ended| {
                let told = (ended.sent, ended.failed, ended.call.is_some());
                tells.lock().unwrap().push(told);
            }),
            ..Settings::default()
        };
        drop(Retries::new(&settings));
        Retries::new(&settings).begin();
        let mut waits = Retries::new(&settings);
        waits.begin();
        waits.fails(Class::Provider).unwrap();
        drop(waits);
        let mut over = Retries::new(&settings);
        over.begin();
        over.answered(Usage::default());
        drop(over);
        let told = [
            (true, Some(Class::Cancelled), true),
            (true, Some(Class::Provider), false),
            (false, Some(Class::Cancelled), true),
            (true, None, true),
        ];
        assert_eq!(*seen.lock().unwrap(), told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_past_the_deadline_is_the_deadline() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let limit = |seconds| Limit::new(Duration::from_secs(seconds), Class::Stall, deadline);
        assert_eq!(limit(9).passed().class, Class::Stall);
        assert_eq!(
            (limit(11).passed().class, limit(11).at),
            (Class::Deadline, deadline)
        );
    }
}
