//! Signs tokens, for development and tests: in production an issuer does.

use jsonwebtoken::{EncodingKey, Header};
use secrecy::SecretString;
use serde_json::Value;

use super::MAX_TOKEN_BYTES;
use super::claims::{Claims, Expected};
use super::grant::Grants;
use super::refusal::Refusal;
use super::secret::Secrets;

/// What a token shall say.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub sub: String,
    /// Absent, the id is their name.
    pub name: Option<String>,
    pub jti: Option<String>,
    pub stories: Grants,
    pub audience: String,
    pub issuer: String,
    /// In seconds since 1970.
    pub issued_at: u64,
    /// In seconds since 1970.
    pub expires_at: u64,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    #[error("nobody would take that token")]
    Refused(#[source] Refusal),
    #[error("the token cannot be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
    #[error("the token cannot be written")]
    Write(#[from] serde_json::Error),
}

/// A token signed (HS256) with the first of the secrets, one that a verifier with that secret, audience and issuer takes.
///
/// # Errors
/// A verifier would refuse what it says.
pub fn mint(secrets: &Secrets, new: &NewToken) -> Result<SecretString, MintError> {
    let expected = Expected {
        audience: new.audience.clone(),
        issuer: new.issuer.clone(),
    };
    claims(new)?
        .identity(&expected, new.issued_at)
        .map_err(MintError::Refused)?;
    let secret = secrets.first();
    let header = Header {
        kid: secret.kid.clone(),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(secret.bytes());
    let token = jsonwebtoken::encode(&header, &claims(new)?, &key)?;
    if token.len() > MAX_TOKEN_BYTES {
        return Err(MintError::Refused(Refusal::TooLarge));
    }
    Ok(token.into())
}

fn claims(new: &NewToken) -> Result<Claims, serde_json::Error> {
    let text = |text: &String| Value::from(text.as_str());
    Ok(Claims {
        iss: Some(text(&new.issuer)),
        aud: Some(text(&new.audience)),
        exp: Some(new.expires_at.into()),
        nbf: None,
        iat: Some(new.issued_at.into()),
        jti: new.jti.as_ref().map(text),
        sub: Some(text(&new.sub)),
        name: new.name.as_ref().map(text),
        stories: Some(serde_json::to_value(&new.stories)?),
    })
}
