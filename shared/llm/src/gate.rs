//! Asked before each request of a streamed call is sent, and told what it used: for limits that many processes share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::{Class, Error, Usage};

/// So many bytes of a request that nobody counted are taken for a token. Of prose three or four are one; digits with
/// spaces between them, and some scripts, have one in two.
const BYTES: u64 = 2;

/// What a request may use, in tokens. Of the prompt it is an estimate, which what was used corrects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    pub prompt: u64,
    /// `None`: the request sets no limit.
    pub answer: Option<u64>,
}

/// A request that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Which of the client's models is to be asked: their places, from 0.
    pub model: usize,
    pub kind: Kind,
    pub most: Most,
    /// No other model could be asked in its place.
    pub is_last: bool,
}

/// Which request of its call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    First,
    /// One more that costs no try: the provider asked to wait, or was not reached.
    Free,
    /// The one before failed.
    Retry,
    /// Another model failed.
    Fallback,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Leave {
    /// It is sent.
    Go(Pass),
    /// The next model is asked instead. Of the last one it is sent all the same, and nobody is told what it used.
    Next,
    /// A retry that is not made: the call ends as its last request did.
    Stop,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    pub spent: Spent,
    /// Why it failed; [`Class::Cancelled`] where nobody waited for its end.
    pub failed: Option<Class>,
    /// How long the provider asked to be left alone since too much was asked of it.
    pub pause: Option<Duration>,
}

/// What a request used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// As the provider told.
    Told(Usage),
    /// It was not sent, or refused at once.
    Nothing,
    /// It broke off, or the provider does not tell.
    Unknown,
}

/// Lets requests through, one [`Pass`] each, or refuses them: the call then ends with that error. While it has a request wait
/// the call's deadline does. The default one lets all through.
#[derive(Clone, Default)]
pub struct Gate(Option<Arc<Ask>>);

pub(crate) type Asking = BoxFuture<'static, Result<Leave, Error>>;

type Ask = dyn Fn(Asked) -> Asking + Send + Sync;

/// The leave to send a request. What becomes of it is told once.
pub struct Pass(Box<dyn FnOnce(Done) + Send>);

impl Gate {
    pub fn new(
        ask: impl Fn(Asked) -> BoxFuture<'static, Result<Leave, Error>> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(ask)))
    }

    /// `None` where nobody asks.
    pub(crate) fn ask(&self, asked: Asked) -> Option<Asking> {
        self.0.as_ref().map(|ask| ask(asked))
    }
}

impl Pass {
    /// `told` must not wait.
    pub fn new(told: impl FnOnce(Done) + Send + 'static) -> Self {
        Self(Box::new(told))
    }

    /// The request ended.
    pub(crate) fn end(self, failed: Option<&Error>, usage: Usage) {
        let spent = match failed {
            _ if usage.known => Spent::Told(usage),
            Some(error) if is_refusal(error) => Spent::Nothing,
            _ => Spent::Unknown,
        };
        // Others fail for what is this request's own, however long it was to wait.
        let of_all = failed.filter(|error| matches!(error.class, Class::Rate | Class::Quota));
        (self.0)(Done {
            spent,
            failed: failed.map(|error| error.class),
            pause: of_all.and_then(|error| error.retry_after),
        });
    }
}

/// Whether the provider did no work on what failed so, or none that it has anybody pay for: what it fails at itself it does not
/// charge. A proxy that lost patience with it knows nothing of that.
fn is_refusal(error: &Error) -> bool {
    if error.began {
        return false;
    }
    let is_refused = matches!(
        error.class,
        Class::Rate | Class::Quota | Class::Connect | Class::Auth | Class::Context | Class::Request
    );
    is_refused || matches!(error.status, Some(500..=503 | 529))
}

impl Most {
    /// `counted`: the tokens of the prompt, where somebody counted them.
    pub(crate) fn of(body: &str, counted: Option<u64>, max_tokens: Option<u32>) -> Self {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        Self {
            prompt: counted.unwrap_or(bytes.div_ceil(BYTES)),
            answer: max_tokens.map(u64::from),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass")
    }
}
