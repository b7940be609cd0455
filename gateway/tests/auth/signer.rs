//! Keys made anew in each run, with aws-lc-rs itself, and tokens put together by hand: nothing of what is tested signs.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use aws_lc_rs::{encoding::AsDer, encoding::PublicKeyX509Der, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

/// One key under one name.
pub(crate) struct Signer {
    pub(crate) algorithm: &'static str,
    pub(crate) kid: String,
    key: Private,
}

enum Private {
    Secret(String),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn new(algorithm: &'static str, kid: &str) -> Self {
        let key = match algorithm {
            "HS256" => {
                let mut random = [0; 32];
                aws_lc_rs::rand::fill(&mut random).unwrap();
                Private::Secret(base64(&random))
            }
            "RS256" => Private::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            "ES256" => {
                Private::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "EdDSA" => Private::Ed(Ed25519KeyPair::generate().unwrap()),
            other => panic!("no key for {other}"),
        };
        Self {
            algorithm,
            kid: kid.to_owned(),
            key,
        }
    }

    /// Its line of a secrets file.
    pub(crate) fn line(&self) -> Option<String> {
        match &self.key {
            Private::Secret(secret) => Some(format!("{} {secret}\n", self.kid)),
            _ => None,
        }
    }

    /// Its entry of a JWKS.
    pub(crate) fn jwk(&self) -> Option<Value> {
        let mut jwk = match &self.key {
            Private::Secret(_) => return None,
            Private::Rsa(key) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "n": base64(&public.n), "e": base64(&public.e)})
            }
            Private::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": base64(&point[1..33]), "y": base64(&point[33..])})
            }
            Private::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        Some(jwk)
    }

    /// All that its public key may be written as, by somebody who takes it for a secret.
    pub(crate) fn public_bytes(&self) -> Vec<Vec<u8>> {
        let (raw, der) = match &self.key {
            Private::Secret(_) => return Vec::new(),
            Private::Rsa(key) => (key.public_key().as_ref().to_vec(), der(key.public_key())),
            Private::Ec(key) => (key.public_key().as_ref().to_vec(), der(key.public_key())),
            Private::Ed(key) => (key.public_key().as_ref().to_vec(), der(key.public_key())),
        };
        let standard = base64::engine::general_purpose::STANDARD.encode(&der);
        let lines: Vec<_> = standard.as_bytes().chunks(64).collect();
        let body = lines.join(&b'\n');
        let pem = [
            b"-----BEGIN PUBLIC KEY-----\n",
            &*body,
            b"\n-----END PUBLIC KEY-----\n",
        ]
        .concat();
        let jwk = self.jwk().unwrap().to_string().into_bytes();
        vec![raw, der, pem, jwk]
    }

    pub(crate) fn header(&self) -> Value {
        json!({"alg": self.algorithm, "typ": "JWT", "kid": self.kid})
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = match &self.key {
            Private::Secret(secret) => mac(secret.as_bytes(), &message),
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let random = SystemRandom::new();
                key.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Private::Ec(key) => {
                let signature = key.sign(&SystemRandom::new(), message.as_bytes());
                signature.unwrap().as_ref().to_vec()
            }
            Private::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(&signature))
    }
}

/// A token with that signature, whatever signs.
pub(crate) fn hmac_token(header: &Value, claims: &Value, key: &[u8]) -> String {
    let message = message(header, claims);
    format!("{message}.{}", base64(&mac(key, &message)))
}

pub(crate) fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn jwks(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().filter_map(|signer| signer.jwk()).collect();
    json!({"keys": keys}).to_string()
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "issuer", "aud": "storyfleet", "exp": now() + 3600, "iat": now(),
        "sub": "u42", "name": "Mira", "stories": {"castle": "author"}
    })
}

/// Claims that make the token that long, or a byte longer where base64 has no such length.
pub(crate) fn claims_for(signer: &Signer, bytes: usize) -> Value {
    let mut claims = claims();
    claims["pad"] = json!("");
    // Four characters hold three bytes.
    let mut pad = (bytes - signer.token(&claims).len()) * 3 / 4 - 3;
    while signer.token(&claims).len() < bytes {
        claims["pad"] = json!("x".repeat(pad));
        pad += 1;
    }
    claims
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

fn der<'a>(key: &impl AsDer<PublicKeyX509Der<'a>>) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}
