//! Whether a worker lives (its loops go round) and is ready (Redis answers, it takes work), and the pages that say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, http::header::CONTENT_TYPE};
use tokio::time::Instant;

use crate::{Metrics, exit};

/// A loop that has not gone round for this long is stuck: each wait in one is shorter.
const STUCK: Duration = Duration::from_secs(30);

/// The loops of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loop {
    Take,
    Renew,
}

#[derive(Debug)]
pub(crate) struct Health {
    started: Instant,
    /// When each loop last went round, in ms since `started`.
    rounds: [AtomicU64; 2],
    redis: AtomicU8,
    /// When Redis answered for the first time, or again after it had been away, in ms since `started`.
    back: AtomicU64,
    draining: AtomicBool,
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            rounds: Default::default(),
            redis: AtomicU8::new(UNKNOWN),
            back: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn round(&self, which: Loop) {
        self.rounds[which as usize].store(self.now(), Relaxed);
    }

    /// Only a change is logged, so that an hour without Redis is two lines.
    pub(crate) fn redis_answered(&self) {
        let was = self.redis.swap(UP, Relaxed);
        if was == UP {
            return;
        }
        self.back.store(self.now(), Relaxed);
        if was == DOWN {
            // As loud as its loss.
            tracing::warn!("Redis answers again");
        }
    }

    /// Whether Redis is away, or has been back for less than `time`. Whoever starts cannot know that it was not away.
    pub(crate) fn redis_is_just_back(&self, time: Duration) -> bool {
        let back = self.back.load(Relaxed);
        self.redis.load(Relaxed) != UP
            || u128::from(self.now().saturating_sub(back)) < time.as_millis()
    }

    pub(crate) fn redis_failed(&self, error: bus::Error) {
        if self.redis.swap(DOWN, Relaxed) != DOWN {
            let error = anyhow::Error::from(error);
            tracing::warn!(
                error = exit::line(&error),
                "Redis does not answer, or refuses: trying until it does"
            );
        }
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn live(&self) -> bool {
        let since = |round: &AtomicU64| self.now().saturating_sub(round.load(Relaxed));
        self.draining.load(Relaxed)
            || self
                .rounds
                .iter()
                .all(|round| u128::from(since(round)) < STUCK.as_millis())
    }

    pub(crate) fn ready(&self) -> bool {
        self.redis.load(Relaxed) == UP && !self.draining.load(Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[derive(Clone)]
struct Pages {
    health: Arc<Health>,
    metrics: Metrics,
}

/// `/metrics`, `/livez`, `/readyz`.
pub(crate) fn pages(health: Arc<Health>, metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route(
            "/livez",
            get(async |State(pages): State<Pages>| word(pages.health.live(), "live")),
        )
        .route(
            "/readyz",
            get(async |State(pages): State<Pages>| word(pages.health.ready(), "ready")),
        )
        .with_state(Pages { health, metrics })
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn word(yes: bool, word: &str) -> (StatusCode, String) {
    if yes {
        (StatusCode::OK, format!("{word}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {word}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_lives_while_every_loop_goes_round() {
        let health = Health::new();
        assert!(health.live());
        tokio::time::advance(STUCK).await;
        assert!(!health.live());
        health.round(Loop::Take);
        assert!(!health.live());
        health.round(Loop::Renew);
        assert!(health.live());
    }

    #[tokio::test(start_paused = true)]
    async fn redis_is_just_back_at_the_start_and_after_it_was_away() {
        let health = Health::new();
        health.redis_answered();
        assert!(health.redis_is_just_back(STUCK));
        tokio::time::advance(2 * STUCK).await;
        assert!(!health.redis_is_just_back(STUCK));
        health.redis_failed(bus::Error::Server("gone".into()));
        assert!(health.redis_is_just_back(STUCK));
        health.redis_answered();
        assert!(health.redis_is_just_back(STUCK));
        tokio::time::advance(2 * STUCK).await;
        assert!(!health.redis_is_just_back(STUCK));
    }

    #[test]
    fn a_worker_is_ready_while_redis_answers_and_it_takes_work() {
        let health = Health::new();
        assert!(!health.ready());
        health.redis_answered();
        assert!(health.ready());
        health.redis_failed(bus::Error::Server("gone".into()));
        assert!(!health.ready());
        health.redis_answered();
        health.drain();
        assert!(!health.ready());
    }
}
