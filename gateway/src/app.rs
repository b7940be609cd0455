//! What all requests of this node share.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use bus::Bus;
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Signer;
use crate::auth::{Credential, Identity, Origins, Refusal, Verifier, credential};
use crate::hub::Hub;
use crate::session::{Now, Rate};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) bus: Bus,
    pub(crate) hub: Arc<Hub>,
    pub(crate) verifier: Verifier,
    /// Where there is a secret to sign with.
    pub(crate) signer: Option<Signer>,
    pub(crate) origins: Origins,
    pub(crate) rate: Rate,
    /// How often a quiet connection is written to.
    pub(crate) ping: Duration,
    /// No more is taken, and connections are told to go.
    pub(crate) drain: CancellationToken,
    pub(crate) drain_limit: Duration,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unauthorized {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the ticket was used, is over, or never was: ask for a new one")]
    Ticket,
    #[error(transparent)]
    Redis(bus::Error),
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Whom a request comes from.
    pub(crate) async fn identify(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Identity, Unauthorized> {
        match credential(headers, query, &self.origins)? {
            Credential::Token(token) => Ok(self.verifier.verify(token.expose_secret()).await?),
            Credential::Ticket(ticket) => {
                let holder = self.bus.take_ticket(ticket.expose_secret()).await;
                let holder = holder.map_err(Unauthorized::Redis)?;
                let holder = holder.and_then(|json| serde_json::from_slice(&json).ok());
                holder.ok_or(Unauthorized::Ticket)
            }
        }
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    Now {
        instant: Instant::now(),
        unix: unix.map_or(0, |since| since.as_secs()),
    }
}
