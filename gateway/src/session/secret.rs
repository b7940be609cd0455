//! A token on its way to be verified.

use secrecy::{ExposeSecret, SecretString};

#[derive(Debug, Clone)]
pub(crate) struct Token(pub(crate) SecretString);

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}
