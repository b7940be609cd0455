//! How often people may ask and write, and how often an address may fail to show a good token. What is full again is
//! forgotten, so that only who did something lately takes memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{NotUntil, Quota, RateLimiter};
use tokio::time::{Instant, interval};

use crate::address::Client;
use crate::metrics::Refusals;
use crate::session::Rate;

/// How often what is full again is forgotten.
const FORGET: Duration = Duration::from_secs(10);
/// Nobody is asked to come back sooner.
const LEAST: Duration = Duration::from_millis(1);

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, Ticks, StateInformationMiddleware>;

/// What is limited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Of one person.
    pub(crate) requests: Rate,
    /// Of one person.
    pub(crate) publishes: Rate,
    /// Of one address.
    pub(crate) failures: Rate,
}

#[derive(Debug)]
pub(crate) struct Rates {
    requests: Limiter<String>,
    publishes: Limiter<String>,
    failures: Limiter<Client>,
    /// Those who have failed so often that they are told to wait, until then: a limiter tells only whoever takes.
    shut: Mutex<HashMap<Client, Instant>>,
    pause: Duration,
    refused: Refusals,
}

/// tokio's clock.
#[derive(Debug, Clone, Copy)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

impl Rates {
    pub(crate) fn new(allowed: Allowed, refused: Refusals) -> Self {
        Self {
            requests: limiter(allowed.requests),
            publishes: limiter(allowed.publishes),
            failures: limiter(allowed.failures),
            shut: Mutex::default(),
            pause: allowed.failures.every,
            refused,
        }
    }

    /// One more request of this person, or after what time there may be one.
    pub(crate) fn request(&self, sub: &String) -> Result<(), Duration> {
        let taken = take(&self.requests, sub);
        taken.inspect_err(|_| self.refused.count("requests"))
    }

    /// The same of what they write.
    pub(crate) fn publish(&self, sub: &String) -> Result<(), Duration> {
        let taken = take(&self.publishes, sub);
        taken.inspect_err(|_| self.refused.count("publishes"))
    }

    /// Whether another failure from there is told as what it is, or after what time.
    pub(crate) fn may_try(&self, client: Client) -> Result<(), Duration> {
        let shut = self.shut().get(&client).copied();
        let left = shut.map(|until| until.saturating_duration_since(Instant::now()));
        match left {
            None | Some(Duration::ZERO) => Ok(()),
            Some(left) => {
                self.refused.count("failures");
                Err(left.max(LEAST))
            }
        }
    }

    /// Somebody there had no good token.
    pub(crate) fn failed(&self, client: Client) {
        let pause = match self.failures.check_key(&client) {
            Ok(left) if left.remaining_burst_capacity() > 0 => return,
            Ok(_) => self.pause,
            Err(until) => after(&self.failures, &until),
        };
        self.shut().insert(client, Instant::now() + pause);
    }

    /// For as long as the node runs.
    pub(crate) async fn forget(&self) {
        let mut due = interval(FORGET);
        loop {
            due.tick().await;
            self.forget_now();
        }
    }

    fn forget_now(&self) {
        tidy(&self.requests);
        tidy(&self.publishes);
        tidy(&self.failures);
        let now = Instant::now();
        let mut shut = self.shut();
        shut.retain(|_, until| *until > now);
        shut.shrink_to_fit();
    }

    fn shut(&self) -> MutexGuard<'_, HashMap<Client, Instant>> {
        // Nothing panics while it is held, and each write leaves it whole.
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limiter<K: Hash + Eq + Clone>(rate: Rate) -> Limiter<K> {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    let every = rate.every.max(Duration::from_nanos(1));
    let quota = Quota::with_period(every)
        .unwrap_or_else(|| unreachable!("it is a time"))
        .allow_burst(burst);
    RateLimiter::new(quota, HashMapStateStore::default(), Ticks(Instant::now()))
}

fn take<K: Hash + Eq + Clone>(limiter: &Limiter<K>, key: &K) -> Result<(), Duration> {
    let taken = limiter.check_key(key);
    taken.map(drop).map_err(|until| after(limiter, &until))
}

fn after<K: Hash + Eq + Clone>(limiter: &Limiter<K>, until: &NotUntil<Nanos>) -> Duration {
    let wait = until.wait_time_from(limiter.clock().now());
    wait.max(LEAST)
}

fn tidy<K: Hash + Eq + Clone>(limiter: &Limiter<K>) {
    limiter.retain_recent();
    limiter.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::time::advance;

    use super::*;
    use crate::metrics::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates() -> Rates {
        let rate = |burst| Rate {
            burst,
            every: SECOND,
        };
        let allowed = Allowed {
            requests: rate(4),
            publishes: rate(2),
            failures: rate(3),
        };
        Rates::new(allowed, Metrics::new().refused)
    }

    fn client(last: u8) -> Client {
        IpAddr::from([192, 0, 2, last]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn each_person_asks_and_writes_so_often_and_then_so_often_in_a_time() {
        let (rates, mira, oto) = (rates(), "mira".to_owned(), "oto".to_owned());
        for _ in 0..4 {
            assert_eq!(rates.request(&mira), Ok(()));
        }
        assert_eq!(rates.request(&mira), Err(SECOND));
        for _ in 0..2 {
            assert_eq!(rates.publish(&mira), Ok(()));
        }
        assert_eq!(rates.publish(&mira), Err(SECOND));
        assert_eq!(rates.request(&oto), Ok(()));
        advance(SECOND / 2).await;
        assert_eq!(rates.request(&mira), Err(SECOND / 2));
        advance(SECOND / 2).await;
        assert_eq!(rates.request(&mira), Ok(()));
        assert_eq!(rates.publish(&mira), Ok(()));
        assert!(rates.request(&mira).is_err() && rates.publish(&mira).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_too_often_is_not_looked_at_and_others_are() {
        let rates = rates();
        for _ in 0..3 {
            assert_eq!(rates.may_try(client(1)), Ok(()));
            rates.failed(client(1));
        }
        assert_eq!(rates.may_try(client(1)), Err(SECOND));
        assert_eq!(rates.may_try(client(2)), Ok(()));
        advance(SECOND).await;
        assert_eq!(rates.may_try(client(1)), Ok(()));
        // Those who were under way when it was shut.
        rates.failed(client(1));
        rates.failed(client(1));
        assert!(rates.may_try(client(1)).is_err_and(|after| after <= SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_full_again_is_forgotten_and_nothing_else() {
        let rates = rates();
        for number in 0..100_u8 {
            rates.failed(client(number));
            assert_eq!(rates.request(&format!("u{number}")), Ok(()));
        }
        for _ in 0..3 {
            rates.failed(client(7));
        }
        rates.forget_now();
        assert_eq!((rates.failures.len(), rates.requests.len()), (100, 100));
        assert_eq!(rates.shut().len(), 1);
        advance(SECOND * 2).await;
        rates.forget_now();
        assert_eq!((rates.failures.len(), rates.requests.len()), (1, 0));
        advance(SECOND * 3).await;
        rates.forget_now();
        assert!(rates.failures.is_empty() && rates.shut().is_empty());
    }
}
