//! The provider's own limits: token buckets for requests and for tokens a minute, and what was asked beyond them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::wire::Refusal;

const MINUTE: f64 = 60.0;
/// Sums of fractions of a token come out this close to whole.
const ROUNDING: f64 = 1e-6;

/// Limits a minute. A bucket starts full and holds one minute's worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub requests: Option<u32>,
    pub tokens: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Limiter(Mutex<State>);

/// What was refused: a client that keeps to the limits has zeros here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Overshoot {
    requests: u64,
    tokens: u64,
}

#[derive(Debug)]
struct State {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    overshoot: Overshoot,
}

#[derive(Debug)]
struct Bucket {
    limit: f64,
    level: f64,
    filled: Instant,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(State {
            requests: limits.requests.map(Bucket::new),
            tokens: limits.tokens.map(Bucket::new),
            overshoot: Overshoot::default(),
        }))
    }

    /// Takes one request and its tokens from the buckets, or neither.
    pub(crate) fn admit(&self, tokens: u32) -> Result<(), Refusal> {
        self.state().admit(tokens)
    }

    pub(crate) fn overshoot(&self) -> Overshoot {
        self.state().overshoot
    }

    /// A panic within leaves levels that are still levels.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, tokens: u32) -> Result<(), Refusal> {
        let now = Instant::now();
        let costs = [
            ("requests", &mut self.requests, 1.0),
            ("tokens", &mut self.tokens, f64::from(tokens)),
        ];
        let mut asked: Vec<_> = costs
            .into_iter()
            .filter_map(|(what, bucket, n)| Some((what, bucket.as_mut()?, n)))
            .collect();
        let waits = asked
            .iter_mut()
            .map(|(what, bucket, n)| (bucket.wait(*n, now), *what));
        match waits.max() {
            Some((wait, what)) if !wait.is_zero() => {
                self.overshoot.requests += 1;
                self.overshoot.tokens += u64::from(tokens);
                Err(refusal(what, wait))
            }
            _ => {
                asked
                    .iter_mut()
                    .for_each(|(_, bucket, n)| bucket.level -= *n);
                Ok(())
            }
        }
    }
}

impl Bucket {
    fn new(limit: u32) -> Self {
        Self {
            limit: limit.into(),
            level: limit.into(),
            filled: Instant::now(),
        }
    }

    /// How long until `n` are there; a minute for more than the bucket ever holds.
    fn wait(&mut self, n: f64, now: Instant) -> Duration {
        let gained = self.limit * (now - self.filled).as_secs_f64() / MINUTE;
        self.level = (self.level + gained).min(self.limit);
        self.filled = now;
        let missing = n - self.level;
        if missing <= ROUNDING {
            Duration::ZERO
        } else if n > self.limit {
            Duration::from_secs_f64(MINUTE)
        } else {
            Duration::from_secs_f64(missing * MINUTE / self.limit)
        }
    }
}

fn refusal(what: &'static str, wait: Duration) -> Refusal {
    let seconds = wait.as_secs_f64();
    let message =
        format!("Rate limit reached on {what} per min. Please try again in {seconds:.3}s.");
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, what, message)
        .code("rate_limit_exceeded")
        .header("retry-after", seconds.ceil().to_string())
        .header("retry-after-ms", (seconds * 1e3).ceil().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(requests: Option<u32>, tokens: Option<u32>) -> Limiter {
        Limiter::new(Limits { requests, tokens })
    }

    fn told(refused: &Refusal) -> Vec<&str> {
        refused
            .headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_passes_after_the_time_it_was_told() {
        let limiter = limiter(Some(3), None);
        for _ in 0..3 {
            limiter.admit(10).unwrap();
        }
        let refused = limiter.admit(10).unwrap_err();
        assert_eq!(told(&refused), ["20", "20000"]);
        tokio::time::advance(Duration::from_secs(19)).await;
        limiter.admit(10).unwrap_err();
        tokio::time::advance(Duration::from_secs(1)).await;
        limiter.admit(10).unwrap();
        let overshoot = Overshoot {
            requests: 2,
            tokens: 20,
        };
        assert_eq!(limiter.overshoot(), overshoot);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_tokens_costs_no_request() {
        let limiter = limiter(Some(2), Some(100));
        limiter.admit(90).unwrap();
        let refused = limiter.admit(40).unwrap_err();
        assert_eq!(refused.kind, "tokens");
        assert_eq!(told(&refused), ["18", "18000"]);
        limiter.admit(10).unwrap();
        assert_eq!(limiter.admit(0).unwrap_err().kind, "requests");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_whole_bucket_never_passes() {
        let limiter = limiter(None, Some(100));
        let refused = limiter.admit(101).unwrap_err();
        assert_eq!(told(&refused), ["60", "60000"]);
        tokio::time::advance(Duration::from_secs(120)).await;
        limiter.admit(101).unwrap_err();
        limiter.admit(100).unwrap();
    }
}
