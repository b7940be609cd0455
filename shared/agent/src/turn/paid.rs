//! A turn that has to be begun again after its worker died: as it was begun, so that it asks the same, and what it asks is
//! paid for already.

use bus::{Draft, Drafted, Fetched};
use llm::{Bought, Paid};
use serde::{Deserialize, Serialize};
use story::{Event, EventId, LogEntry, Seq};
use tokio::sync::mpsc;

use super::Step;
use crate::window::{Bounds, Window};
use crate::{Agent, exit};

/// How a turn was begun: what of the log it saw, who could join it, and how much of it a prompt could hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) seq: Seq,
    pub(super) waiting: Vec<EventId>,
    #[serde(default)]
    pub(super) window: Option<Bounds>,
}

/// What an earlier delivery left.
pub(super) struct Left {
    pub(super) begun: Begun,
    pub(super) answers: Vec<Paid>,
}

impl Begun {
    pub(super) fn new(history: &[LogEntry], waiting: &[Event], window: &Window) -> Self {
        let seq = history.last().map_or(Seq(0), |entry| entry.seq);
        let waiting = waiting.iter().map(|event| event.id.clone()).collect();
        Self {
            seq,
            waiting,
            window: Some(window.bounds()),
        }
    }
}

impl Left {
    /// Nothing could join the turn.
    pub(super) fn is_alone(&self) -> bool {
        self.begun.waiting.is_empty()
    }

    /// `None`: nothing, or what another version wrote.
    pub(super) fn of(fetched: &Fetched) -> Option<Self> {
        let (begun, answers) = fetched.paid.as_ref()?;
        let answers = answers.iter().map(|answer| serde_json::from_slice(answer));
        Some(Self {
            begun: serde_json::from_slice(begun).ok()?,
            answers: answers.collect::<Result<_, _>>().ok()?,
        })
    }
}

impl<A: Agent> Step<'_, A> {
    /// Keeps the answers of the turn as they come, until it asks for no more. `anew`: some were left, and the turn is begun
    /// otherwise.
    pub(super) async fn keep(
        &self,
        mut bought: mpsc::Receiver<Bought>,
        (draft, begun): (&Draft, &Begun),
        anew: bool,
    ) {
        while let Some(Bought { paid, again }) = bought.recv().await {
            if anew || again {
                self.worker.meters.paid_twice.inc();
            }
            let kept = match (serde_json::to_vec(begun), serde_json::to_vec(&paid)) {
                (Ok(begun), Ok(paid)) => self.worker.bus.keep_paid(draft, &begun, &paid).await,
                // Strings and numbers always serialise.
                _ => return,
            };
            match kept {
                Ok(Drafted::Ok) => {}
                // Another worker has the event: the commit is told so.
                Ok(Drafted::Stale) => return,
                // It is bought again if this worker dies now.
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::debug!(error = exit::line(&error), "an answer is not kept");
                }
            }
        }
    }
}
