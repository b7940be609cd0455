//! What a ticket stands for: somebody whose token was verified. It ends with that token, gives no further ticket, and gives
//! a token to nobody's script who had none.

use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::app::{App, Unauthorized, now};
use crate::auth::{Credential, Identity, LEEWAY, Refusal};

/// While nothing is said of how long.
const LIVES: Duration = Duration::from_secs(30);

/// Whom a ticket lets in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    /// The token was in a cookie: a script that could read it has none to carry away.
    #[serde(default)]
    is_sealed: bool,
}

impl Holder {
    /// How long the token is still taken.
    fn left(&self) -> Duration {
        let end = self.identity.expires_at.saturating_add(LEEWAY.as_secs());
        Duration::from_secs(end.saturating_sub(now().unix))
    }
}

impl App {
    /// A ticket for whoever shows a token, and how long it is good.
    pub(crate) async fn ticket(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<(String, Duration), Unauthorized> {
        let (token, is_sealed) = match self.shown(headers, query)? {
            Credential::Token(token) => (token, false),
            Credential::Cookie(token) => (token, true),
            Credential::Ticket(_) => {
                let words = "a ticket gives no other ticket: send the token in a header";
                return Err(Unauthorized::NotHere(words));
            }
        };
        let identity = self.verify(&token).await?;
        let holder = Holder {
            identity,
            is_sealed,
        };
        let ticket = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let lives = holder.left().min(LIVES);
        let json = serde_json::to_vec(&holder)
            .unwrap_or_else(|error| unreachable!("a holder is always JSON: {error}"));
        let put = self.bus.put_ticket(&ticket, &json, lives).await;
        put.map_err(Unauthorized::Redis)?;
        Ok((ticket, lives))
    }

    /// Who shows a ticket, where a token is to be given for it.
    pub(crate) async fn for_token(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<Identity, Unauthorized> {
        let Credential::Ticket(ticket) = self.shown(headers, query)? else {
            let words = "a token is given for a ticket alone: send `?ticket=` and nothing else";
            return Err(Unauthorized::NotHere(words));
        };
        let holder = self.redeem(&ticket).await?;
        if holder.is_sealed {
            let words = "the ticket was got with a cookie, which stays in the browser: it lets you connect, and gives no token";
            return Err(Unauthorized::NotHere(words));
        }
        Ok(holder.identity)
    }

    /// Takes a ticket.
    pub(crate) async fn redeem(&self, ticket: &SecretString) -> Result<Holder, Unauthorized> {
        let (who, is_sealed) = match self.taken(ticket).await {
            Ok(holder) => (Ok(holder.identity), holder.is_sealed),
            Err(error) => (Err(error), false),
        };
        self.counted(who).map(|identity| Holder {
            identity,
            is_sealed,
        })
    }

    async fn taken(&self, ticket: &SecretString) -> Result<Holder, Unauthorized> {
        // Before it is used up.
        if !self.revoked.whole().await {
            return Err(Unauthorized::Unready);
        }
        let taken = self.bus.take_ticket(ticket.expose_secret()).await;
        let json = taken.map_err(Unauthorized::Redis)?;
        let holder = json.and_then(|json| serde_json::from_slice::<Holder>(&json).ok());
        let holder = holder.ok_or(Unauthorized::Ticket)?;
        if holder.left().is_zero() {
            return Err(Refusal::Expired.into());
        }
        Ok(holder)
    }
}
