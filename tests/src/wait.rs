//! Waiting for a state of another program that nothing announces: asked for again and again, within a deadline.
//! The one place where a test sleeps.

use std::time::Duration;

use anyhow::Context;
use tokio::time::{sleep, timeout};

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Between two questions. Redis tells no subscriber of a lane that emptied, nor the mock model of a call that came.
const PAUSE: Duration = Duration::from_millis(20);

/// What `ask` gives once it gives something.
///
/// # Errors
/// Those of `ask`; or when there is nothing in time.
pub async fn eventually<T>(
    what: &str,
    ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    within(DEADLINE, what, ask).await
}

/// The same with a deadline of its own.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let search = async {
        loop {
            if let Some(found) = ask().await? {
                return Ok(found);
            }
            sleep(PAUSE).await;
        }
    };
    timeout(deadline, search)
        .await
        .with_context(|| format!("not in time: {what}"))?
}

/// Lets time pass that is itself what a test is about: how long an outage lasts. Nothing is waited for.
pub async fn lasting(time: Duration) {
    sleep(time).await;
}
