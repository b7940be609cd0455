//! Why somebody is not let in, in words for their client. Nothing of what they sent is repeated.

/// Why a request has no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "no token came with the request: send `Authorization: Bearer <token>`, or get a ticket from POST /v1/tickets and send `?ticket=`"
    )]
    Missing,
    #[error("the {0} can be given once only: leave one")]
    Twice(&'static str),
    #[error(
        "a token in a URL ends up in logs, so it is not taken and should be replaced: send it as `Authorization: Bearer <token>`, or get a ticket from POST /v1/tickets and send `?ticket=`"
    )]
    InQuery,
    #[error(
        "the cookie is taken from this site's own pages and from allowed origins only: send the token as `Authorization: Bearer <token>`, or have the origin allowed"
    )]
    Origin,
    #[error("the token has more than 8192 bytes: get one with fewer claims")]
    TooLarge,
    #[error("{0}")]
    Malformed(&'static str),
    #[error(
        "the token is signed in a way that its key is not for: HS256 goes with a shared secret, RS256, ES256 and EdDSA with the issuer's published keys"
    )]
    Algorithm,
    #[error(
        "no key for this token is known here: get a new one; if its issuer has just changed keys, try again in 10 seconds"
    )]
    Key,
    #[error(
        "the issuer's keys cannot be read now, so the token cannot be checked: try again in 10 seconds"
    )]
    Unavailable,
    #[error("the token's signature is not that of its key: get a new token")]
    Signature,
    #[error("the token has expired: get a new one")]
    Expired,
    #[error("the token is not valid yet: try later, or check the issuer's clock")]
    NotYet,
    #[error(
        "the token is for another audience: ask its issuer for one that names this service in `aud`"
    )]
    Audience,
    #[error(
        "the token is from another issuer: get one from the issuer that this service takes tokens of"
    )]
    Issuer,
    #[error("the token's claim `{claim}` is not {wanted}: ask its issuer to set it")]
    Claims {
        claim: &'static str,
        wanted: &'static str,
    },
}

impl Refusal {
    /// Its class, for metrics and problem documents: one word, few of them.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Twice(_) => "twice",
            Self::InQuery => "in_query",
            Self::Origin => "origin",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Key => "key",
            Self::Unavailable => "unavailable",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
            Self::Claims { .. } => "claims",
        }
    }

    /// Whether the same request can succeed later: it says nothing about the token (503 rather than 401).
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::MAX_TOKEN_BYTES;

    #[test]
    fn the_limit_in_the_words_is_the_limit() {
        let told = Refusal::TooLarge.to_string();
        assert!(told.contains(&MAX_TOKEN_BYTES.to_string()), "{told}");
    }
}
