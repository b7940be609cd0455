//! From a token to somebody: its shape, its key, its signature, then its claims.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certificates::shown;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::MAX_TOKEN_BYTES;
use super::claims::{Claims, Expected};
use super::fetch::{self, JwksUrl};
use super::identity::Identity;
use super::keys::{Algorithm, KeySet, KeysError};
use super::refusal::Refusal;
use super::secret;
use super::source::{Current, Place, Source};

/// Whose tokens are taken, and where the keys for them are. All places given are used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What a token must name in `aud`.
    pub audience: String,
    /// What a token must name as `iss`.
    pub issuer: String,
    /// A file of [`Secrets`](super::Secrets), for HS256. A change to it is seen within a second.
    pub secrets: Option<PathBuf>,
    /// A JWKS, for RS256, ES256 and EdDSA. A change to it is seen within a second.
    pub jwks_file: Option<PathBuf>,
    /// The same from a server.
    pub jwks_url: Option<JwksUrl>,
    /// How old the server's keys may be before they are fetched again; those that cannot be fetched stay in use.
    pub jwks_max_age: Duration,
    /// How long one fetch may take.
    pub jwks_timeout: Duration,
    /// Where fetches run.
    pub tasks: TaskTracker,
    /// Ends a fetch that runs.
    pub stop: CancellationToken,
}

/// Why nobody could be verified.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "there is no key to verify tokens with: give a secrets file, a JWKS file or a JWKS URL"
    )]
    NoKeys,
    #[error("the {0} that tokens must name is empty")]
    Empty(&'static str),
    #[error("the file of {option}, {path}, cannot be read")]
    Read {
        option: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{path} gives no keys")]
    Keys { path: String, source: KeysError },
    #[error("the client that fetches keys cannot be made")]
    Client(#[source] reqwest::Error),
}

/// What came of looking at a place of keys.
#[derive(Debug)]
pub struct Looked {
    /// The file or the URL, as it may be shown.
    pub place: String,
    /// Else a server, which may answer later.
    pub is_file: bool,
    pub keys: anyhow::Result<usize>,
}

/// Makes somebody of a token, or refuses it.
#[derive(Debug)]
pub struct Verifier {
    expected: Expected,
    sources: Vec<Source>,
}

/// What is read of a token's header. Keys and addresses in it are the sender's, so nothing is made of them.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

/// A token taken apart.
struct Parts<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    /// What is signed: header and payload as they came.
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl Settings {
    /// No keys yet; an age of 10 minutes, fetches of 5 seconds.
    #[must_use]
    pub fn new(audience: &str, issuer: &str) -> Self {
        Self {
            audience: audience.to_owned(),
            issuer: issuer.to_owned(),
            secrets: None,
            jwks_file: None,
            jwks_url: None,
            jwks_max_age: Duration::from_secs(600),
            jwks_timeout: Duration::from_secs(5),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// What each place of keys gives now: how many that can be used, or why none.
    ///
    /// # Errors
    /// There is no place for keys.
    pub async fn look(&self) -> Result<Vec<Looked>, SettingsError> {
        let mut all = Vec::new();
        for place in self.places()? {
            let keys = match place.look().await {
                Ok(keys) if keys.is_empty() => Err(KeysError::NoneUsable.into()),
                Ok(keys) => Ok(keys.len()),
                Err(error) => Err(error.into()),
            };
            all.push(Looked {
                is_file: place.is_file(),
                place: place.shown(),
                keys,
            });
        }
        Ok(all)
    }

    fn places(&self) -> Result<Vec<Place>, SettingsError> {
        let secrets = self.secrets.clone().map(Place::Secrets);
        let file = self.jwks_file.clone().map(Place::JwksFile);
        let mut places: Vec<Place> = secrets.into_iter().chain(file).collect();
        if let Some(url) = self.jwks_url.clone() {
            let client = fetch::client(self.jwks_timeout).map_err(SettingsError::Client)?;
            places.push(Place::JwksUrl {
                url,
                client,
                max_age: self.jwks_max_age,
            });
        }
        if places.is_empty() {
            Err(SettingsError::NoKeys)
        } else {
            Ok(places)
        }
    }

    fn source(&self, place: Place) -> Result<Source, SettingsError> {
        let keys = match &place {
            Place::Secrets(path) | Place::JwksFile(path) => {
                let told = shown(path);
                let bytes = secret::read(path, fetch::MAX_BYTES as u64).map_err(|source| {
                    SettingsError::Read {
                        option: match place {
                            Place::Secrets(_) => "--jwt-secrets",
                            _ => "--jwks-file",
                        },
                        path: told.clone(),
                        source,
                    }
                })?;
                let keys = place.keys(&bytes).and_then(|keys| {
                    if keys.is_empty() {
                        Err(KeysError::NoneUsable)
                    } else {
                        Ok(keys)
                    }
                });
                Some(keys.map_err(|source| SettingsError::Keys { path: told, source })?)
            }
            Place::JwksUrl { .. } => None,
        };
        Ok(Source::new(
            place,
            keys,
            self.tasks.clone(),
            self.stop.clone(),
        ))
    }
}

impl Verifier {
    /// Reads the files. The server is asked by [`Verifier::is_ready`], or when a token needs it, so that it may come up later.
    ///
    /// # Errors
    /// There is no place for keys, or a file has none.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        for (name, value) in [
            ("audience", &settings.audience),
            ("issuer", &settings.issuer),
        ] {
            if value.is_empty() {
                return Err(SettingsError::Empty(name));
            }
        }
        let places = settings.places()?;
        let sources = places.into_iter().map(|place| settings.source(place));
        Ok(Self {
            sources: sources.collect::<Result<_, _>>()?,
            expected: Expected {
                audience: settings.audience,
                issuer: settings.issuer,
            },
        })
    }

    /// Whether there are keys from everywhere. Those that are not read yet are asked for, so that whoever comes first need not
    /// wait for them, and what is wrong is logged; once in a while, however often it is called.
    pub fn is_ready(&self) -> bool {
        // All of them are asked.
        let read = self.sources.iter().filter(|source| source.is_read());
        read.count() == self.sources.len()
    }

    /// Who the token names. At most waits for one fetch of keys.
    ///
    /// # Errors
    /// Why it is refused.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        let parts = Parts::of(token)?;
        self.check_signature(&parts).await?;
        let payload = decode(parts.payload).ok_or(NOT_JWT)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| NOT_CLAIMS)?;
        claims.identity(&self.expected, unix_now())
    }

    /// A token that names its key is checked by keys of that name alone, one that does not by all of its algorithm.
    async fn check_signature(&self, parts: &Parts<'_>) -> Result<(), Refusal> {
        let kid = parts.kid.as_deref();
        let mut refusal = Refusal::Algorithm;
        let asked = self.sources.iter();
        for source in asked.filter(|source| source.is_for(parts.algorithm)) {
            let knows = |keys: &KeySet| keys.meant(kid, parts.algorithm).next().is_some();
            match judge(&source.keys(knows).await, parts) {
                Ok(()) => return Ok(()),
                Err(found) => refusal = closest(refusal, found),
            }
        }
        Err(refusal)
    }
}

/// Whether one of the keys that the token can be meant for has signed it.
fn judge(current: &Current, parts: &Parts<'_>) -> Result<(), Refusal> {
    let meant = current.keys.meant(parts.kid.as_deref(), parts.algorithm);
    let mut meant = meant.peekable();
    if meant.peek().is_none() {
        return Err(if current.is_failing {
            Refusal::Unavailable
        } else {
            Refusal::Key
        });
    }
    let mut fitting = meant
        .filter(|key| key.algorithm == parts.algorithm)
        .peekable();
    if fitting.peek().is_none() {
        Err(Refusal::Algorithm)
    } else if fitting.any(|key| key.verifies(parts.message, parts.signature)) {
        Ok(())
    } else {
        Err(Refusal::Signature)
    }
}

/// Of two places' refusals the one that came further with the token. `Algorithm` is also what is said where no place was
/// asked.
fn closest(one: Refusal, other: Refusal) -> Refusal {
    let rank = |refusal: &Refusal| match refusal {
        Refusal::Unavailable => 3,
        Refusal::Signature => 2,
        Refusal::Key => 1,
        _ => 0,
    };
    if rank(&other) >= rank(&one) {
        other
    } else {
        one
    }
}

const NOT_JWT: Refusal =
    Refusal::Malformed("that is not a token: send a signed JWT, three parts with dots between");
const NOT_CLAIMS: Refusal = Refusal::Malformed(
    "what the token says is not a JSON object, or says a claim twice: get another one from its issuer",
);
const CRITICAL: Refusal =
    Refusal::Malformed("the token demands (`crit`) what is not known here: get one without");

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(NOT_JWT)?;
        let (header, payload) = message.split_once('.').ok_or(NOT_JWT)?;
        if payload.contains('.') {
            return Err(NOT_JWT);
        }
        let header = decode(header).ok_or(NOT_JWT)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| NOT_JWT)?;
        if header.crit.is_some() {
            return Err(CRITICAL);
        }
        Ok(Self {
            algorithm: Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?,
            kid: header.kid,
            message,
            payload,
            signature,
        })
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn unix_now() -> u64 {
    // A clock before 1970 can judge no token: by it all have ended.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(u64::MAX, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_breaks_it(
            text in "(\\.|[a-zA-Z0-9_=-]{0,6}|\\PC{0,3}){0,8}",
            header in "\\{(\"(alg|kid|crit|typ)\":(\"(HS256|none|[a-z]{0,3})\"|null|7|\\[\\]),?){0,3}\\}?",
            payload in proptest::collection::vec(any::<u8>(), 0..32),
        ) {
            prop_assert!(Parts::of(&text).is_err() || text.matches('.').count() == 2);
            let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let token = format!("{}.{}.", encoded(header.as_bytes()), encoded(&payload));
            if let Ok(parts) = Parts::of(&token) {
                prop_assert!(parts.algorithm == Algorithm::Hs256 && header.contains("HS256"));
            }
            if let Ok(claims) = serde_json::from_slice::<Claims>(&payload) {
                let expected = Expected { audience: "a".to_owned(), issuer: "i".to_owned() };
                prop_assert!(claims.identity(&expected, 0).is_err());
            }
        }
    }
}
