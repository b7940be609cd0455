//! A token for a ticket: what a page does with the one in its address, so that it can come back after a cut or a reload.
//! It says what the ticket's holder was let in with, and ends when that ends. Only where this gateway has a secret to sign
//! with; else an issuer gives tokens.

use std::path::PathBuf;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use secrecy::ExposeSecret;
use serde::Serialize;

use crate::address::Client;
use crate::app::App;
use crate::auth::{Identity, MintError, NewToken, Secrets, SecretsError, mint};
use crate::problem::Problem;

/// Signs tokens that this gateway takes.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    pub(crate) secrets: PathBuf,
    pub(crate) audience: String,
    pub(crate) issuer: String,
}

#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the secrets cannot be read")]
    Secrets(#[from] SecretsError),
    #[error("the token cannot be made")]
    Mint(#[from] MintError),
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Token {
    token: String,
    /// Unix seconds.
    expires_at: u64,
}

/// Get a token for a ticket, where this gateway signs tokens
#[utoipa::path(post, path = "/v1/tokens", operation_id = "createToken", tag = "tokens",
    responses((status = 200, description = "A token", body = Token)))]
pub(crate) async fn create(
    State(app): State<App>,
    client: Client,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    // Before the ticket is taken, which is then still good for a connection.
    let Some(signer) = app.signer.clone() else {
        let words =
            "this gateway signs no tokens: ask the issuer for one, or connect with the ticket";
        return Err(Problem::new(StatusCode::CONFLICT, "not_issued_here", words));
    };
    let who = app.for_token(&headers, query.as_deref());
    let identity = app.tried(client, who).await?;
    let expires_at = identity.expires_at;
    let signed = tokio::task::spawn_blocking(move || signer.sign(identity)).await;
    let token = signed.map_err(failed)?;
    let token = token.map_err(failed)?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        Json(Token { token, expires_at }),
    ))
}

/// What is wrong with the secrets is nobody's affair but ours.
fn failed(error: impl std::error::Error + 'static) -> Problem {
    let error: &dyn std::error::Error = &error;
    tracing::error!(error, "a token could not be signed");
    let words = "no token can be signed now: connect with another ticket";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "not_signed", words)
}

impl Signer {
    /// Reads the secrets each time: they may have changed.
    fn sign(&self, person: Identity) -> Result<String, SignError> {
        let new = NewToken {
            sub: person.sub,
            name: Some(person.name),
            jti: person.jti,
            stories: person.stories,
            audience: self.audience.clone(),
            issuer: self.issuer.clone(),
            // Unknown, it is as old as can be: whoever revokes what is older than a moment means it too.
            issued_at: person.issued_at.unwrap_or(0),
            expires_at: person.expires_at,
        };
        let token = mint(&Secrets::read(&self.secrets)?, &new)?;
        Ok(token.expose_secret().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::auth::{Settings, Verifier};

    const SECRET: &str = "a-secret-that-is-at-least-thirty-two-bytes-long";

    fn soon() -> u64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        unix.expect("after 1970").as_secs() + 60
    }

    fn person(more: &serde_json::Value) -> Identity {
        let mut json = serde_json::json!({
            "sub": "u42", "name": "Mira", "jti": "t1", "issued_at": 1_700_000_000_u64,
            "expires_at": soon(), "stories": {"castle": "author", "*": "reader"},
        });
        let fields = json.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        serde_json::from_value(json).expect("an identity")
    }

    async fn signed(person: Identity) -> Identity {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = folder.path().join("secrets");
        std::fs::write(&secrets, SECRET).expect("written");
        let signer = Signer {
            secrets: secrets.clone(),
            audience: "stories".to_owned(),
            issuer: "here".to_owned(),
        };
        let token = signer.sign(person).expect("a token");
        let settings = Settings {
            secrets: Some(secrets),
            ..Settings::new("stories", "here")
        };
        let verifier = Verifier::new(settings).expect("a verifier");
        verifier.verify(&token).await.expect("a good token")
    }

    #[tokio::test]
    async fn the_token_says_what_the_ticket_was_given_for_and_nothing_more() {
        let person = person(&serde_json::json!({}));
        assert_eq!(signed(person.clone()).await, person);
    }

    #[tokio::test]
    async fn a_token_of_unknown_age_is_as_old_as_can_be() {
        let person = person(&serde_json::json!({"issued_at": null, "jti": null}));
        let known = signed(person).await;
        assert_eq!((known.issued_at, known.jti), (Some(0), None));
    }

    #[test]
    fn without_its_secrets_nothing_is_signed() {
        let folder = tempfile::tempdir().expect("a folder");
        let signer = Signer {
            secrets: folder.path().join("gone"),
            audience: "stories".to_owned(),
            issuer: "here".to_owned(),
        };
        let person = person(&serde_json::json!({}));
        assert!(matches!(signer.sign(person), Err(SignError::Secrets(_))));
    }
}
