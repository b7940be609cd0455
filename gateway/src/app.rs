//! What all requests of this node share.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::spans;
use axum::http::HeaderMap;
use bus::{Bus, Published, Replicated};
use secrecy::{ExposeSecret, SecretString};
use story::{Event, Traceparent};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::address::Client;
use crate::api::Signer;
use crate::auth::{Credential, Identity, Origins, Refusal, Verifier, credential};
use crate::entrance::Entrance;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::quota::{Place, Quota};
use crate::rates::Rates;
use crate::revoked::Revoked;
use crate::session::{Now, Rate};

const AGAIN_MS: RangeInclusive<u64> = 2_500..=5_000;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) hub: Arc<Hub>,
    pub(crate) verifier: Verifier,
    pub(crate) revoked: Revoked,
    pub(crate) metrics: Metrics,
    /// Connections of each person.
    pub(crate) places: Quota<Arc<str>>,
    pub(crate) rates: Rates,
    pub(crate) entrance: Entrance,
    /// Where there is a secret to sign with.
    pub(crate) signer: Option<Signer>,
    pub(crate) origins: Origins,
    pub(crate) rate: Rate,
    /// How often a quiet connection is written to.
    pub(crate) ping: Duration,
    /// No more is taken, and connections are told to go.
    pub(crate) drain: CancellationToken,
    pub(crate) drain_limit: Duration,
    /// What is wrong with this machine's clock, or Redis's.
    pub(crate) clock: watch::Sender<Option<String>>,
    /// Why Redis refuses what people do, and answers all the same.
    pub(crate) refusal: watch::Sender<Option<String>>,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unauthorized {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the token was revoked: ask for a new one")]
    Revoked,
    #[error("the ticket was used, is over, or never was: ask for a new one")]
    Ticket,
    #[error("{0}")]
    NotHere(&'static str),
    /// Nobody is let in who may have been put out.
    #[error(
        "this node has just started and does not know yet which tokens were revoked: try again"
    )]
    Unready,
    /// Whoever asks, and whatever with.
    #[error("{words}: try again in {} s", .after.as_secs() + 1)]
    Rate {
        words: &'static str,
        after: Duration,
    },
    #[error(transparent)]
    Redis(bus::Error),
}

impl Unauthorized {
    /// The class, for metrics.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            Self::Revoked => "revoked",
            Self::Ticket => "ticket",
            Self::NotHere(_) => "not_here",
            Self::Unready => "unready",
            Self::Rate { .. } => "rate",
            Self::Redis(_) => "redis",
        }
    }

    /// Whether it is the credential, or that there is none: a 401.
    fn is_failure(&self) -> bool {
        let is_honest = matches!(self, Self::NotHere(_) | Self::Refused(Refusal::Expired));
        !self.is_temporary() && !is_honest
    }

    /// Whether the same may do later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_temporary(),
            Self::Redis(_) | Self::Unready | Self::Rate { .. } => true,
            Self::Revoked | Self::Ticket | Self::NotHere(_) => false,
        }
    }
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// What comes of a token from there. Whoever fails too often is told to wait; a good token from the same address, which
    /// many may share, is good all the same.
    pub(crate) async fn tried<T>(
        &self,
        client: Client,
        tries: impl Future<Output = Result<T, Unauthorized>>,
    ) -> Result<T, Unauthorized> {
        let tried = tries.await;
        if !tried.as_ref().is_err_and(Unauthorized::is_failure) {
            return tried;
        }
        let may_try = self.rates.may_try(client);
        self.rates.failed(client);
        may_try.map_err(|after| {
            let words = "too many requests from your address had no good token";
            Unauthorized::Rate { words, after }
        })?;
        tried
    }

    /// When somebody who is told that the node goes is to come back, in ms: not all at once.
    pub(crate) fn comes_back_after(&self) -> u64 {
        let spread = self.drain_limit.mul_f64(rand::random_range(0.0..0.8));
        u64::try_from(spread.as_millis()).unwrap_or(u64::MAX)
    }

    /// One more connection of this person, unless they have all that they may have.
    pub(crate) fn place(&self, sub: &str) -> Option<Place<Arc<str>>> {
        let place = self.places.take(sub);
        if place.is_none() {
            self.metrics.refused.count("per_person");
        }
        place
    }

    /// Whom a request comes from.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Identity, Unauthorized> {
        match self.shown(headers, query)? {
            Credential::Token(token) | Credential::Cookie(token) => self.verify(&token).await,
            Credential::Ticket(ticket) => Ok(self.redeem(&ticket).await?.identity),
        }
    }

    pub(crate) fn shown(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Credential, Unauthorized> {
        let shown = credential(headers, query, &self.origins).map_err(Unauthorized::Refused);
        shown.inspect_err(|error| self.metrics.auth(error.as_str()))
    }

    /// Who has this token.
    pub(crate) async fn verify(&self, token: &SecretString) -> Result<Identity, Unauthorized> {
        let verified = self.verifier.verify(token.expose_secret()).await;
        let verified = match verified {
            Ok(_) if !self.revoked.whole().await => Err(Unauthorized::Unready),
            verified => verified.map_err(Unauthorized::Refused),
        };
        self.counted(verified.and_then(|identity| self.in_time(identity)))
    }

    /// One more request of theirs. A ticket is none: it was one to get it, and it is used up.
    fn in_time(&self, identity: Identity) -> Result<Identity, Unauthorized> {
        match self.rates.request(&identity.sub) {
            Ok(()) => Ok(identity),
            Err(after) => {
                let words = "you ask too often";
                Err(Unauthorized::Rate { words, after })
            }
        }
    }

    /// What somebody does, which is counted by what becomes of it. Its trace begins here, unless it has one.
    pub(crate) async fn publish(
        &self,
        event: &mut Event,
    ) -> Result<(Published, Replicated), bus::Error> {
        let span = spans::publish(event);
        let new = || Traceparent::new(rand::random(), rand::random());
        event.trace.get_or_insert_with(new);
        let publishing = self.bus.publish_replicated(event);
        let published = publishing.instrument(span.clone()).await;
        if published.is_err() {
            spans::failed(&span, "redis");
        }
        self.metrics.published(published.as_ref());
        published
    }

    pub(crate) fn counted(
        &self,
        who: Result<Identity, Unauthorized>,
    ) -> Result<Identity, Unauthorized> {
        let who = who.and_then(|identity| match self.revoked.has(&identity) {
            true => Err(Unauthorized::Revoked),
            false => Ok(identity),
        });
        self.metrics.auth(match &who {
            Ok(_) => "ok",
            Err(error) => error.as_str(),
        });
        who
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// When a reader of a story that cannot be read is to join it again, in ms: not all of them at once.
pub(crate) fn joins_again_after() -> u64 {
    rand::random_range(AGAIN_MS)
}

pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        instant: Instant::now(),
        unix: unix.map_or(0, |since| since.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn readers_of_a_story_that_cannot_be_read_come_back_one_after_the_other() {
        let times: BTreeSet<u64> = (0..1_000).map(|_| joins_again_after()).collect();
        assert!(times.iter().all(|ms| AGAIN_MS.contains(ms)));
        assert!(times.len() > 500, "{} times", times.len());
    }
}
