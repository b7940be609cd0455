//! Tokens for the readers of a bench, and the files by which a gateway knows them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::auth::{Grants, NewToken, Pattern, Role, Secrets, mint};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// Audience and issuer of every token.
pub(in crate::bench) const NAME: &str = "bench";

const LIVES: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(in crate::bench) struct Issuer {
    secrets: Secrets,
    key: EcdsaKeyPair,
    folder: PathBuf,
}

impl Issuer {
    /// With a new secret and a new key.
    pub(in crate::bench) fn new(folder: &Path) -> anyhow::Result<Self> {
        let secret = rand::random::<[u8; 32]>();
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(folder.join("secrets"), secret)?;
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .ok()
            .context("no key can be made")?;
        // Uncompressed: 4, then both coordinates.
        let point = key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "bench",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        std::fs::write(
            folder.join("jwks.json"),
            json!({ "keys": [jwk] }).to_string(),
        )?;
        Ok(Self {
            secrets: Secrets::read(&folder.join("secrets"))?,
            key,
            folder: folder.to_owned(),
        })
    }

    pub(in crate::bench) fn secrets(&self) -> PathBuf {
        self.folder.join("secrets")
    }

    pub(in crate::bench) fn jwks(&self) -> PathBuf {
        self.folder.join("jwks.json")
    }

    /// HS256: for whoever may write in every story.
    pub(in crate::bench) fn token(&self, sub: &str) -> anyhow::Result<String> {
        let now = now()?;
        let everything: Pattern = "*".parse()?;
        let stories: Grants = [(everything, Role::Author)].into_iter().collect();
        let new = NewToken {
            sub: sub.to_owned(),
            name: None,
            jti: None,
            stories,
            audience: NAME.to_owned(),
            issuer: NAME.to_owned(),
            issued_at: now.as_secs(),
            expires_at: (now + LIVES).as_secs(),
        };
        Ok(mint(&self.secrets, &new)?.expose_secret().to_owned())
    }

    /// ES256: the same.
    pub(in crate::bench) fn signed(&self, sub: &str) -> anyhow::Result<String> {
        let now = now()?;
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(json!({"alg": "ES256", "typ": "JWT", "kid": "bench"}));
        let claims = part(json!({
            "sub": sub, "aud": NAME, "iss": NAME, "stories": {"*": "author"},
            "iat": now.as_secs(), "exp": (now + LIVES).as_secs(),
        }));
        let message = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.ok().context("a token cannot be signed")?;
        Ok(format!(
            "{message}.{}",
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        ))
    }
}

fn now() -> anyhow::Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.context("this machine's clock is before 1970")
}
