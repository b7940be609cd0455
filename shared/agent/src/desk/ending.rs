//! How claims end: with the call, or with whoever waited for them, and how Redis is told of that.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bus::Used;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::claim::Claim;
use super::{Attempt, Desk};
use crate::retry::Backoff;

/// How long after its end was told a claim may still come to Redis.
const LATE: Duration = Duration::from_secs(2);

/// A claim that is over.
#[derive(Debug)]
pub(crate) struct Held {
    claim: Claim,
    pub(super) used: Option<Used>,
    /// How long the provider asked to be left alone.
    pause: Duration,
    since: Instant,
    /// It may be granted yet: nobody waited for the answer.
    pub(super) may_come: bool,
    /// Of [`Attempt::ends`].
    untold: Option<oneshot::Sender<()>>,
}

impl Held {
    pub(super) fn nothing(claim: Claim) -> Self {
        Self::of(claim, Some(Used::default()), Duration::ZERO)
    }

    /// `used`: as far as it is known.
    pub(super) fn of(claim: Claim, used: Option<Used>, pause: Duration) -> Self {
        Self {
            claim,
            used,
            pause,
            since: Instant::now(),
            may_come: false,
            untold: None,
        }
    }

    /// The next call of the attempt waits until this is told.
    pub(super) fn before_the_next_of(self, attempt: &Attempt) -> Self {
        let untold = Some(attempt.ends());
        Self { untold, ..self }
    }
}

/// A claim that is made. Nobody may be there for its answer: then what it holds, or its place among those who wait, is let go.
pub(super) struct Claiming<'a> {
    desk: &'a Desk,
    claim: Option<Claim>,
}

impl<'a> Claiming<'a> {
    pub(super) fn new(desk: &'a Desk, claim: Claim) -> Self {
        let claim = Some(claim);
        Self { desk, claim }
    }

    /// Its answer is here.
    pub(super) fn over(mut self) -> Claim {
        self.claim.take().expect("it is taken where it ends")
    }
}

impl Deref for Claiming<'_> {
    type Target = Claim;

    fn deref(&self) -> &Claim {
        self.claim.as_ref().expect("it is taken where it ends")
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        if let Some(claim) = self.claim.take() {
            self.desk.end(Held {
                may_come: true,
                ..Held::nothing(claim)
            });
        }
    }
}

impl Desk {
    pub(super) fn end(&self, held: Held) {
        if let Err(lost) = self.ended.try_send(held) {
            let Claim { turn, number, .. } = lost.into_inner().claim;
            tracing::warn!(
                turn,
                number,
                "it is not told what a call used: all that it might have counts"
            );
        }
    }

    /// Tells Redis what calls used, until `end`, and then what is untold still.
    pub(crate) async fn tell(
        self: Arc<Self>,
        mut told: mpsc::Receiver<Held>,
        end: CancellationToken,
    ) {
        // A claim that was under way may reach a Redis that stood still behind what ends it, over another connection.
        let mut again: VecDeque<(Instant, Held)> = VecDeque::new();
        loop {
            let due = again.front().map(|(due, _)| *due);
            let held = tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    again.pop_front().map(|(_, held)| held)
                }
                held = told.recv() => held,
                () = end.cancelled() => None,
            };
            let Some(mut held) = held else { break };
            self.settle(&held, &end).await;
            drop(held.untold.take());
            if std::mem::take(&mut held.may_come) {
                again.push_back((Instant::now() + LATE, held));
            }
        }
        for (_, held) in again {
            self.settle(&held, &end).await;
        }
    }

    /// Tries until it is over by itself, or once more after `end`.
    async fn settle(&self, held: &Held, end: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let done = self
                .bus
                .settle(&self.ask(&held.claim), held.used, held.pause)
                .await;
            match done {
                Ok(_) => return,
                Err(error)
                    if error.is_passing()
                        && held.since.elapsed() < self.life
                        && !end.is_cancelled() =>
                {
                    backoff.pause().await;
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        error = crate::exit::line(&error),
                        "it is not told what a call used"
                    );
                    return;
                }
            }
        }
    }
}
