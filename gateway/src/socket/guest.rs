//! Who asks for a socket. A browser shows a page no more of a refused handshake than that it failed: whoever may not come in
//! is let in to be told so.

use axum::http::HeaderMap;

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
    pub(super) async fn of(app: &App, headers: &HeaderMap, query: Option<&str>) -> Self {
        if !app.origins.allows(headers) {
            let words =
                "pages of this origin may not connect: the gateway's --origin names those that may";
            return Self::Foreign(words.to_owned());
        }
        match app.identify(headers, query).await {
            Ok(identity) => Self::Known(identity),
            Err(Unauthorized::Refused(Refusal::Missing)) => Self::Unknown,
            Err(Unauthorized::Refused(refusal @ Refusal::Origin)) => {
                Self::Foreign(refusal.to_string())
            }
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
