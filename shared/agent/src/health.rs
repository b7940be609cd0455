//! Whether a worker lives (its loops go round) and is ready (Redis answers, it takes work), and the pages that say so.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, http::header::CONTENT_TYPE};
use bus::Bus;
use prometheus::IntGauge;
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
    redis: Mutex<Redis>,
    /// What of it was told, for metrics.
    redis_up: IntGauge,
    draining: AtomicBool,
}

/// Redis as its askers find it.
#[derive(Debug, Default)]
struct Redis {
    /// Whether it was told, in the log and to whoever asks, that Redis answers or that it does not.
    told: Option<bool>,
    /// Why it does not, in words.
    why: String,
    /// Those who have asked in vain and ask again.
    in_trouble: u32,
    /// The loops among them.
    loops_in_trouble: u32,
    /// When it answered a loop for the first time, or again after it had been away.
    back: Option<Instant>,
}

/// One who asks Redis again and again until it answers. Redis is well while no asker is in trouble: a full one still
/// answers what only reads, and so the answer to one asker says nothing of what another one waits for.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    health: &'a Health,
    is_loop: bool,
    in_trouble: bool,
}

impl Health {
    pub(crate) fn new(redis_up: IntGauge) -> Self {
        Self {
            started: Instant::now(),
            rounds: Default::default(),
            redis: Mutex::default(),
            redis_up,
            draining: AtomicBool::new(false),
        }
    }

    pub(crate) fn round(&self, which: Loop) {
        self.rounds[which as usize].store(self.now(), Relaxed);
    }

    /// For one question, until it is answered.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker {
            health: self,
            is_loop: false,
            in_trouble: false,
        }
    }

    /// For a loop, whose questions show whether leases could be renewed.
    pub(crate) fn loop_asker(&self) -> Asker<'_> {
        Asker {
            is_loop: true,
            ..self.asker()
        }
    }

    /// Whether Redis is away, or has been back for less than `time`. Whoever starts cannot know that it was not away.
    pub(crate) fn redis_is_just_back(&self, time: Duration) -> bool {
        let redis = self.redis();
        redis.loops_in_trouble > 0 || redis.back.is_none_or(|back| back.elapsed() < time)
    }

    fn redis(&self) -> MutexGuard<'_, Redis> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What keeps the worker from taking work, in words, if anything does.
    pub(crate) fn hindrance(&self) -> Option<String> {
        if self.draining.load(Relaxed) {
            return Some("it was asked to end, and takes nothing new".to_owned());
        }
        let redis = self.redis();
        match redis.told {
            Some(true) => None,
            Some(false) => Some(format!("Redis does not answer, or refuses: {}", redis.why)),
            None => Some("Redis did not answer yet".to_owned()),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Only a change is logged, so that an hour without Redis is two lines.
impl Asker<'_> {
    pub(crate) fn answered(&mut self) {
        let mut redis = self.health.redis();
        if self.is_loop && (self.in_trouble || redis.back.is_none()) {
            redis.back = Some(Instant::now());
        }
        self.leave(&mut redis);
        let is_well = redis.in_trouble == 0;
        let is_new = is_well && redis.told.replace(true) == Some(false);
        self.health.redis_up.set((redis.told == Some(true)).into());
        // Whoever reads the logs slowly keeps no other asker waiting.
        drop(redis);
        if is_new {
            // As loud as its loss.
            tracing::warn!("Redis answers again");
        }
    }

    /// There is nothing to ask any more: no trouble, and no answer either.
    pub(crate) fn rests(&mut self) {
        let mut redis = self.health.redis();
        if self.is_loop && self.in_trouble {
            redis.back = Some(Instant::now());
        }
        self.leave(&mut redis);
    }

    pub(crate) fn failed(&mut self, error: bus::Error) {
        let why = exit::line(&error.into());
        let mut redis = self.health.redis();
        if !self.in_trouble {
            self.in_trouble = true;
            redis.in_trouble += 1;
            redis.loops_in_trouble += u32::from(self.is_loop);
        }
        let is_new = redis.told.replace(false) != Some(false);
        self.health.redis_up.set(0);
        redis.why.clone_from(&why);
        drop(redis);
        if is_new {
            tracing::warn!(
                error = why,
                "Redis does not answer, or refuses: trying until it does"
            );
        }
    }

    fn leave(&mut self, redis: &mut Redis) {
        if self.in_trouble {
            self.in_trouble = false;
            redis.in_trouble -= 1;
            redis.loops_in_trouble -= u32::from(self.is_loop);
        }
    }
}

/// Who gives up was not answered: that says the next answer to somebody else.
impl Drop for Asker<'_> {
    fn drop(&mut self) {
        let health = self.health;
        self.leave(&mut health.redis());
    }
}

#[derive(Clone)]
struct Pages {
    health: Arc<Health>,
    bus: Bus,
    metrics: Metrics,
}

/// `/metrics`, `/livez`, `/readyz`.
pub(crate) fn pages(health: Arc<Health>, bus: Bus, metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route(
            "/livez",
            get(async |State(pages): State<Pages>| live(&pages.health)),
        )
        .route(
            "/readyz",
            get(async |State(pages): State<Pages>| ready(&pages)),
        )
        .with_state(Pages {
            health,
            bus,
            metrics,
        })
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.metrics.encode() {
        Ok(text) => Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)),
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

fn live(health: &Health) -> (StatusCode, &'static str) {
    if health.live() {
        (StatusCode::OK, "live\n")
    } else {
        let words = "not live: one of its loops stands still\n";
        (StatusCode::SERVICE_UNAVAILABLE, words)
    }
}

fn ready(pages: &Pages) -> (StatusCode, String) {
    // What is not served may be known before anybody has asked for it in vain.
    let unserved = pages.bus.unserved().map(|unserved| unserved.why);
    match (pages.health.hindrance(), unserved) {
        (None, None) => (StatusCode::OK, "ready\n".to_owned()),
        (None, Some(unserved)) => (StatusCode::OK, format!("ready, but {unserved}\n")),
        (Some(why), unserved) => {
            let unserved = unserved.map_or_else(String::new, |unserved| format!("; {unserved}"));
            let words = format!("not ready: {why}{unserved}\n");
            (StatusCode::SERVICE_UNAVAILABLE, words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> IntGauge {
        Metrics::new().of(story::Agent::Narrator).redis_up
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_lives_while_every_loop_goes_round() {
        let health = Health::new(up());
        assert!(health.live());
        tokio::time::advance(STUCK).await;
        assert!(!health.live());
        health.round(Loop::Take);
        assert!(!health.live());
        health.round(Loop::Renew);
        assert!(health.live());
    }

    fn gone() -> bus::Error {
        bus::Error::Server("gone".into())
    }

    #[tokio::test(start_paused = true)]
    async fn redis_is_just_back_at_the_start_and_after_a_loop_had_lost_it() {
        let health = Health::new(up());
        let mut asker = health.loop_asker();
        assert!(health.redis_is_just_back(STUCK));
        asker.answered();
        assert!(health.redis_is_just_back(STUCK));
        tokio::time::advance(2 * STUCK).await;
        assert!(!health.redis_is_just_back(STUCK));
        asker.failed(gone());
        tokio::time::advance(2 * STUCK).await;
        assert!(health.redis_is_just_back(STUCK));
        asker.answered();
        assert!(health.redis_is_just_back(STUCK));
        tokio::time::advance(2 * STUCK).await;
        assert!(!health.redis_is_just_back(STUCK));
        // One event's misfortune keeps nobody from what the dead left.
        let mut turn = health.asker();
        turn.failed(gone());
        assert!(!health.redis_is_just_back(STUCK));
        turn.answered();
        assert!(!health.redis_is_just_back(STUCK));
    }

    #[test]
    fn a_worker_is_ready_while_nobody_waits_for_redis_and_it_takes_work() {
        let health = Health::new(up());
        let mut reads = health.loop_asker();
        reads.rests();
        assert!(health.hindrance().is_some());
        reads.answered();
        assert_eq!(health.hindrance(), None);
        let (mut commits, mut given_up) = (health.asker(), health.asker());
        commits.failed(gone());
        given_up.failed(gone());
        reads.answered();
        assert!(health.hindrance().is_some());
        commits.answered();
        drop(given_up);
        assert!(health.hindrance().is_some());
        reads.answered();
        assert_eq!(health.hindrance(), None);
        health.drain();
        assert!(health.hindrance().is_some());
    }
}
