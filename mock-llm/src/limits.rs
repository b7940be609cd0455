//! The provider's own limits: requests and tokens a minute, counted as one of several providers does, and what was asked
//! beyond them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::wire::Refusal;

const MINUTE: Duration = Duration::from_secs(60);
/// Sums of fractions of a token come out this close to whole.
const ROUNDING: f64 = 1e-6;

/// Limits a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub requests: Option<u32>,
    pub tokens: Option<u32>,
    pub minute: Minute,
}

/// What a minute is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Minute {
    /// A bucket that starts full, holds one minute's worth and fills up steadily.
    #[default]
    Bucket,
    /// One after the other, from the server's start on.
    Fixed,
    /// The last one, whenever that is.
    Sliding,
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
    requests: Option<Count>,
    tokens: Option<Count>,
    overshoot: Overshoot,
}

#[derive(Debug)]
struct Count {
    minute: Minute,
    limit: f64,
    /// What is left.
    level: f64,
    /// Up to when the level is what it is, or when the fixed minute began.
    filled: Instant,
    /// What comes back to the level of a sliding minute, and from when it was taken.
    taken: VecDeque<(Instant, f64)>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(State {
            requests: limits
                .requests
                .map(|limit| Count::new(limit, limits.minute)),
            tokens: limits.tokens.map(|limit| Count::new(limit, limits.minute)),
            overshoot: Overshoot::default(),
        }))
    }

    /// Takes one request and its tokens from the limits, or neither.
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
            .filter_map(|(what, count, n)| Some((what, count.as_mut()?, n)))
            .collect();
        let waits = asked
            .iter_mut()
            .map(|(what, count, n)| (count.wait(*n, now), *what));
        match waits.max() {
            Some((wait, what)) if !wait.is_zero() => {
                self.overshoot.requests += 1;
                self.overshoot.tokens += u64::from(tokens);
                Err(refusal(what, wait))
            }
            _ => {
                asked
                    .iter_mut()
                    .for_each(|(_, count, n)| count.take(*n, now));
                Ok(())
            }
        }
    }
}

impl Count {
    fn new(limit: u32, minute: Minute) -> Self {
        Self {
            minute,
            limit: limit.into(),
            level: limit.into(),
            filled: Instant::now(),
            taken: VecDeque::new(),
        }
    }

    /// How long until `n` are there; a minute for more than there ever are.
    fn wait(&mut self, n: f64, now: Instant) -> Duration {
        self.fill(now);
        let missing = n - self.level;
        if missing <= ROUNDING {
            return Duration::ZERO;
        }
        if n > self.limit {
            return MINUTE;
        }
        match self.minute {
            Minute::Bucket => MINUTE.mul_f64(missing / self.limit),
            Minute::Fixed => self.filled + MINUTE - now,
            Minute::Sliding => {
                let mut back = 0.0;
                let enough = self.taken.iter().find(|(_, taken)| {
                    back += taken;
                    back + ROUNDING >= missing
                });
                enough.map_or(MINUTE, |(at, _)| *at + MINUTE - now)
            }
        }
    }

    fn fill(&mut self, now: Instant) {
        match self.minute {
            Minute::Bucket => {
                let gained = self.limit * (now - self.filled).div_duration_f64(MINUTE);
                self.level = (self.level + gained).min(self.limit);
                self.filled = now;
            }
            Minute::Fixed => {
                while self.filled + MINUTE <= now {
                    self.filled += MINUTE;
                    self.level = self.limit;
                }
            }
            Minute::Sliding => {
                while let Some((at, taken)) = self.taken.front().copied()
                    && at + MINUTE <= now
                {
                    self.taken.pop_front();
                    self.level += taken;
                }
            }
        }
    }

    fn take(&mut self, n: f64, now: Instant) {
        self.level -= n;
        if self.minute == Minute::Sliding {
            self.taken.push_back((now, n));
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
        Limiter::new(Limits {
            requests,
            tokens,
            minute: Minute::Bucket,
        })
    }

    fn by(minute: Minute) -> Limiter {
        Limiter::new(Limits {
            requests: None,
            tokens: Some(100),
            minute,
        })
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

    #[tokio::test(start_paused = true)]
    async fn a_sliding_minute_gives_back_what_was_taken_a_minute_ago() {
        let limiter = by(Minute::Sliding);
        limiter.admit(30).unwrap();
        tokio::time::advance(Duration::from_secs(20)).await;
        limiter.admit(70).unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(told(&limiter.admit(30).unwrap_err()), ["10", "10000"]);
        assert_eq!(told(&limiter.admit(31).unwrap_err()), ["30", "30000"]);
        tokio::time::advance(Duration::from_secs(10)).await;
        limiter.admit(30).unwrap();
        limiter.admit(1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_minute_begins_with_all_of_it() {
        let limiter = by(Minute::Fixed);
        tokio::time::advance(Duration::from_secs(50)).await;
        limiter.admit(100).unwrap();
        assert_eq!(told(&limiter.admit(1).unwrap_err()), ["10", "10000"]);
        tokio::time::advance(Duration::from_secs(10)).await;
        limiter.admit(100).unwrap();
        limiter.admit(1).unwrap_err();
    }
}
