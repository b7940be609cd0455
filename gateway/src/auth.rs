//! Who somebody is, and what they may do in which story: tokens are verified here, nothing is stored and nobody is
//! answered. A request's way: [`credential`] finds what it carries, [`Verifier::verify`] makes an [`Identity`] of it,
//! [`Identity::role`] says what that one may do.
//!
//! A key has one algorithm, given by where the key comes from and never by the token: lines of the secrets file verify
//! HS256, keys of a JWKS what their kind is made for (RSA: RS256, P-256: ES256, Ed25519: EdDSA). Everything else, `none`
//! first, is refused before any key is looked at.

mod claims;
mod credential;
mod fetch;
mod grant;
mod identity;
mod keys;
mod mint;
mod origin;
mod refusal;
mod secret;
mod source;
mod verifier;

pub use claims::LEEWAY;
pub use credential::{COOKIE, Credential, SUBPROTOCOL, credential};
pub use fetch::{JwksUrl, JwksUrlError};
pub use grant::{GrantError, Grants, Pattern, Role};
pub use identity::Identity;
pub use keys::KeysError;
pub use mint::{MintError, NewToken, mint};
pub(crate) use origin::Foreign;
pub use origin::{Origin, OriginError, Origins};
pub use refusal::Refusal;
pub use secret::{Secrets, SecretsError};
pub(crate) use source::{LATE, URL_PAUSE};
pub use verifier::{Looked, Settings, SettingsError, Verifier};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
