//! How a body ends: whole, never, or with its connection reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a body ends once its bytes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Complete,
    Hang,
    Cut,
}

/// Asks the connection to be reset, not closed, once its body has failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abort(Arc<AtomicBool>);

/// Why a body fails on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut, as the fault asks")]
pub(crate) struct Cut;

impl Ending {
    /// Returns when the body is over: with an error if it must fail, never if it must hang.
    pub(crate) async fn reach(self, abort: &Abort) -> Option<Cut> {
        match self {
            Self::Complete => None,
            Self::Hang => std::future::pending().await,
            Self::Cut => {
                abort.0.store(true, Ordering::Relaxed);
                // The connection writes out what it holds when its body has to wait, and drops it when its body fails.
                tokio::task::yield_now().await;
                Some(Cut)
            }
        }
    }
}

impl Abort {
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
