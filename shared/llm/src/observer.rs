//! How every try of a client ended, told to whoever counts: also the tries that no caller hears of, because another one
//! gave the answer or because the answer could be done without. And what became of answers that were to be data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Class, Structured, Usage};

/// A try that ended. That a call was dropped is told as [`Class::Cancelled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether a request was sent; a call may also be dropped while it waits for its next try.
    pub sent: bool,
    /// Why it failed; `None`: it gave a whole answer.
    pub failed: Option<Class>,
    /// What it cost, as far as the provider told.
    pub usage: Usage,
    /// The same in millionths, where the price is known.
    pub cost: Option<u64>,
    /// How long the call took, when it ended with this try.
    pub call: Option<Duration>,
}

/// Is told of each try as it ends. Must not wait. The default one takes no notice.
#[derive(Clone, Default)]
pub struct Observer {
    tries: Option<Arc<dyn Fn(Ended) + Send + Sync>>,
    structured: Option<Arc<dyn Fn(Structured) + Send + Sync>>,
}

impl Observer {
    pub fn new(tell: impl Fn(Ended) + Send + Sync + 'static) -> Self {
        Self {
            tries: Some(Arc::new(tell)),
            structured: None,
        }
    }

    /// The same, which is told of answers that were to be data too.
    #[must_use]
    pub fn structured(self, tell: impl Fn(Structured) + Send + Sync + 'static) -> Self {
        Self {
            structured: Some(Arc::new(tell)),
            ..self
        }
    }

    pub(crate) fn tell(&self, ended: Ended) {
        if let Some(tell) = &self.tries {
            tell(ended);
        }
    }

    pub(crate) fn tell_structured(&self, structured: Structured) {
        if let Some(tell) = &self.structured {
            tell(structured);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
