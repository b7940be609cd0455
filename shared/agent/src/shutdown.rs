//! How a process is asked to end: first to finish what it has begun, then to let go of it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two requests. Cancelling `now` without `drain` is the same as both.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing new, finish what is in flight.
    pub drain: CancellationToken,
    /// Stop what is in flight, and release it to other workers.
    pub now: CancellationToken,
}

impl Shutdown {
    /// The first SIGTERM, SIGINT or SIGHUP (the terminal was closed) drains, the second ends at once.
    ///
    /// # Errors
    /// When the system refuses a signal handler.
    pub fn on_signals(tracker: &TaskTracker) -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = Self::default();
        let Self { drain, now } = shutdown.clone();
        tracker.spawn(async move {
            for (token, says) in [
                (drain, "finishing what is in flight"),
                (now.clone(), "letting go at once"),
            ] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                    () = now.cancelled() => return,
                }
                tracing::info!("asked to end: {says}");
                token.cancel();
            }
        });
        Ok(shutdown)
    }
}
