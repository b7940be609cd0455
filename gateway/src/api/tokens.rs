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

#[derive(Debug, Serialize)]
struct Token {
    token: String,
    /// Unix seconds.
    expires_at: u64,
}

pub(crate) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<impl IntoResponse, Problem> {
    // Before the ticket is taken, which is then still good for a connection.
    let Some(signer) = app.signer.clone() else {
        let words =
            "this gateway signs no tokens: ask the issuer for one, or connect with the ticket";
        return Err(Problem::new(StatusCode::CONFLICT, "not_issued_here", words));
    };
    let identity = app.identify(&headers, query.as_deref()).await?;
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
