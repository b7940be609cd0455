//! Keys that verify, each for one algorithm: those of a secrets file, and those of a JWKS (RFC 7517).

use jsonwebtoken::{DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value;

use super::secret::{Secrets, SecretsError};

/// The most keys of a JWKS: a token that names none may be tried with each.
const MAX_KEYS: usize = 64;

/// Bytes of an RSA key that the cryptography takes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Bytes of an Ed25519 key, and of each coordinate of a P-256 key.
const CURVE_BYTES: usize = 32;

/// Why a text holds no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("it is not a JWKS: a JSON object with a list of `keys`")]
    NotJwks,
    #[error("it has more than 262144 bytes")]
    Large,
    #[error("it has {0} keys, at most {MAX_KEYS} are taken")]
    Many(usize),
    #[error(
        "none of its keys can be used: RSA of 2048 to 8192 bits, EC on P-256 and OKP on Ed25519 can, unless `use`, `key_ops` or `alg` says that they are for something else"
    )]
    NoneUsable,
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// How a token can be signed. There is no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// What verifies one algorithm.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    pub(super) algorithm: Algorithm,
    key: DecodingKey,
}

/// All keys from one place.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

/// What is read of a JWK. The rest, private parts too, is not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn crypto(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl Key {
    /// Whether `signature`, in base64url, is that of `message`. What is no signature at all is not one of it either.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.crypto();
        crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

impl KeySet {
    /// Keys of kinds unknown here, or for other uses, are left out, as the RFC wants it.
    pub(super) fn from_jwks(json: &[u8]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let set: Jwks = serde_json::from_slice(json).map_err(|_| KeysError::NotJwks)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeysError::Many(set.keys.len()));
        }
        Ok(Self(set.keys.into_iter().filter_map(key).collect()))
    }

    pub(super) fn from_secrets(secrets: &Secrets) -> Self {
        let keys = secrets.iter().map(|secret| Key {
            kid: secret.kid.clone(),
            algorithm: Algorithm::Hs256,
            key: DecodingKey::from_secret(secret.bytes()),
        });
        Self(keys.collect())
    }

    /// The keys a token can be meant for: those of its key id; without one, those of its algorithm.
    pub(super) fn meant(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let is_meant = move |key: &&Key| match kid {
            Some(kid) => key.kid.as_deref() == Some(kid),
            None => key.algorithm == algorithm,
        };
        self.0.iter().filter(is_meant)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The key of a JWK, if it is one that verifies tokens.
fn key(jwk: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (Algorithm::Rs256, rsa(&jwk)?),
        ("EC", Some("P-256")) => (Algorithm::Es256, p256(&jwk)?),
        ("OKP", Some("Ed25519")) => (Algorithm::EdDsa, ed25519(&jwk)?),
        _ => return None,
    };
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    let is_meant = jwk.usage.is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(verifies)
        && jwk.alg.is_none_or(|alg| alg == algorithm.name());
    is_meant.then_some(Key {
        kid: jwk.kid,
        algorithm,
        key,
    })
}

fn rsa(jwk: &Jwk) -> Option<DecodingKey> {
    let modulus = bytes(jwk.n.as_ref())?;
    let exponent = bytes(jwk.e.as_ref())?;
    let is_sane = RSA_BYTES.contains(&modulus.len()) && !exponent.is_empty();
    is_sane.then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn p256(jwk: &Jwk) -> Option<DecodingKey> {
    let coordinates = (bytes(jwk.x.as_ref())?, bytes(jwk.y.as_ref())?);
    if coordinates.0.len() != CURVE_BYTES || coordinates.1.len() != CURVE_BYTES {
        return None;
    }
    DecodingKey::from_ec_components(jwk.x.as_ref()?, jwk.y.as_ref()?).ok()
}

fn ed25519(jwk: &Jwk) -> Option<DecodingKey> {
    let point = bytes(jwk.x.as_ref())?;
    (point.len() == CURVE_BYTES).then(|| DecodingKey::from_ed_der(&point))
}

fn bytes(text: Option<&String>) -> Option<Vec<u8>> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text?)
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(keys: &Value) -> Result<KeySet, KeysError> {
        KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes())
    }

    fn with(changes: &[(&str, Value)]) -> Value {
        let mut jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "A".repeat(43)});
        for (field, value) in changes {
            jwk[field] = value.clone();
        }
        jwk
    }

    #[test]
    fn a_key_for_another_use_is_left_out() {
        for changes in [
            ("use", json!("sig")),
            ("alg", json!("EdDSA")),
            ("key_ops", json!(["sign", "verify"])),
            ("d", json!("a private part")),
        ] {
            assert!(!set(&json!([with(&[changes])])).unwrap().is_empty());
        }
        for changes in [
            ("use", json!("enc")),
            ("use", json!("signature")),
            ("alg", json!("HS256")),
            ("alg", json!("RS256")),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!([])),
            ("crv", json!("X25519")),
            ("kty", json!("oct")),
            ("x", json!("A".repeat(42))),
            ("x", json!("A".repeat(44))),
            ("x", json!(7)),
            ("kid", json!(["a"])),
        ] {
            let told = format!("{changes:?}");
            assert!(
                set(&json!([with(&[changes])])).unwrap().is_empty(),
                "{told}"
            );
        }
    }

    #[test]
    fn a_key_that_nobody_knows_does_not_spoil_the_others() {
        let keys = json!([{"kty": "AKP", "pub": "?"}, 7, {}, with(&[])]);
        let set = set(&keys).unwrap();
        assert_eq!(set.meant(Some("a"), Algorithm::EdDsa).count(), 1);
        assert_eq!(set.meant(None, Algorithm::EdDsa).count(), 1);
        assert_eq!(set.meant(None, Algorithm::Es256).count(), 0);
        assert_eq!(set.meant(Some("b"), Algorithm::EdDsa).count(), 0);
    }

    #[test]
    fn a_shared_secret_in_a_jwks_is_no_key() {
        let keys = json!([{"kty": "oct", "alg": "HS256", "k": "A".repeat(43)}]);
        assert!(set(&keys).unwrap().is_empty());
    }

    #[test]
    fn short_rsa_keys_are_left_out() {
        let rsa = |bytes: usize| {
            use base64::Engine;
            let n = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xc5; bytes]);
            set(&json!([{"kty": "RSA", "n": n, "e": "AQAB"}])).unwrap()
        };
        assert!(!rsa(256).is_empty() && !rsa(1024).is_empty());
        assert!(rsa(255).is_empty() && rsa(128).is_empty() && rsa(1025).is_empty());
    }

    #[test]
    fn a_set_has_at_most_64_keys() {
        assert!(set(&json!(vec![with(&[]); 64])).is_ok());
        assert!(matches!(
            set(&json!(vec![with(&[]); 65])),
            Err(KeysError::Many(65))
        ));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert!(matches!(
                KeySet::from_jwks(text.as_bytes()),
                Err(KeysError::NotJwks)
            ));
        }
    }
}
