//! The error of a call: one struct, because what a caller acts on is its class.

use std::error::Error as StdError;
use std::time::Duration;

use async_openai::error::OpenAIError;
use secrecy::{ExposeSecret, SecretString};

use crate::Class;

/// Longest message kept of what a provider says, in characters.
const MAX_MESSAGE: usize = 300;

/// Why a call failed for good. `message` is safe to log and to show to an operator: one line, cut,
/// without the API key. It may quote the provider, so it is not for readers of a story.
#[derive(Debug, thiserror::Error)]
#[error("{class}: {message}")]
pub struct Error {
    pub class: Class,
    /// The place of the model that was asked last among those that the client asks, from 0.
    pub place: usize,
    /// HTTP requests sent.
    pub tries: u32,
    /// The HTTP status, where there was one that is not 2xx.
    pub status: Option<u16>,
    /// Whether something of the answer had come before, text or reasoning: then there is something to pay for.
    pub began: bool,
    /// How long the provider asked to wait.
    pub retry_after: Option<Duration>,
    pub message: String,
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            place: 0,
            tries: 0,
            status: None,
            began: false,
            retry_after: None,
            message: message.into(),
            source: None,
        }
    }

    /// A recording that was written by other means.
    pub(crate) fn unplayable() -> Self {
        Self::new(Class::Request, "the recording cannot be played")
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The last step of every failed try: the message becomes one short line without any key.
    pub(crate) fn sealed<'a>(mut self, keys: impl IntoIterator<Item = &'a SecretString>) -> Self {
        for key in keys {
            self.message = self.message.replace(key.expose_secret(), "[key]");
        }
        self.message = one_line(&self.message);
        self
    }
}

/// Our service's own errors come back whole; what async-openai makes itself is classed here.
/// Its `JSONDeserialize` carries, and displays, the frame: only the place is kept, never the text.
impl From<OpenAIError> for Error {
    fn from(error: OpenAIError) -> Self {
        match error {
            OpenAIError::Boxed(inner) => match inner.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(other) => {
                    Error::new(Class::Provider, "the HTTP layer failed").with_source(other)
                }
            },
            OpenAIError::JSONDeserialize(at, _) => Error::new(
                Class::Provider,
                format!(
                    "the provider sent JSON that cannot be read ({:?} error at column {})",
                    at.classify(),
                    at.column()
                ),
            ),
            OpenAIError::StreamError(_) => {
                Error::new(Class::Provider, "the provider's stream is not UTF-8")
            }
            OpenAIError::Reqwest(error) => crate::service::transport(error),
            other => Error::new(Class::Request, "the request cannot be sent").with_source(other),
        }
    }
}

impl From<Error> for OpenAIError {
    fn from(error: Error) -> Self {
        OpenAIError::Boxed(Box::new(error))
    }
}

fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_MESSAGE * 4));
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((cut, _)) = line.char_indices().nth(MAX_MESSAGE) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_short_line_without_the_key() {
        let key = SecretString::from("sk-secret");
        let said = format!("bad key sk-secret\r\n\u{1b}[31m {}", "é".repeat(400));
        let message = Error::new(Class::Auth, said).sealed(Some(&key)).message;
        assert!(message.starts_with("bad key [key] [31m éé"), "{message}");
        assert_eq!(message.chars().count(), MAX_MESSAGE + 1);
        assert!(!message.chars().any(char::is_control));
    }

    #[test]
    fn the_text_of_an_unreadable_frame_is_not_in_the_error() {
        let broken = serde_json::from_str::<u8>("\"the dragon wakes\"").unwrap_err();
        let error = Error::from(OpenAIError::JSONDeserialize(
            broken,
            "the dragon wakes".into(),
        ));
        assert_eq!(error.class, Class::Provider);
        assert!(!format!("{error} {error:?}").contains("dragon"));
    }
}
