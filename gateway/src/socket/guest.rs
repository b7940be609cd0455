//! Who asks for a socket. A browser shows a page no more of a refused handshake than that it failed: whoever may not come in
//! is let in to be told so.

use axum::http::HeaderMap;

use crate::address::Client;
use crate::app::{App, Unauthorized};
use crate::auth::{Identity, Refusal};

pub(super) enum Guest {
    Known(Identity),
    /// Says it later.
    Unknown,
    Refused(Unauthorized),
    /// A page that may not, whoever looks at it; in words.
    Foreign(String),
}

impl Guest {
    pub(super) async fn of(
        app: &App,
        client: Client,
        (headers, query): (&HeaderMap, Option<&str>),
    ) -> Self {
        if !app.origins.allows(headers) {
            let words =
                "pages of this origin may not connect: the gateway's --origin names those that may";
            return Self::Foreign(words.to_owned());
        }
        let who = async {
            match app.identify(headers, query).await {
                // Not yet a failure.
                Err(Unauthorized::Refused(Refusal::Missing)) => Ok(None),
                who => who.map(Some),
            }
        };
        match app.tried(client, who).await {
            Ok(Some(identity)) => Self::Known(identity),
            Ok(None) => Self::Unknown,
            Err(Unauthorized::Refused(refusal @ Refusal::Origin)) => {
                Self::Foreign(refusal.to_string())
            }
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
