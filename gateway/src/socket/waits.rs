//! Waits for what may not be there: then for ever.

use futures::future::BoxFuture;

use super::Outcome;
use crate::hub::{Delivery, End, Feed, Why};

pub(super) async fn next(feed: Option<&Feed>) -> Result<Delivery, Why> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

/// Also while nothing can be written, which is why it came.
pub(super) async fn ended(end: Option<&End>) {
    match end {
        Some(end) => end.came().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn done(working: &mut Option<BoxFuture<'static, Outcome>>) -> Outcome {
    match working {
        Some(working) => working.await,
        None => std::future::pending().await,
    }
}
