//! What a turn is begun with: the story as it is now, who may join the beat, and the answers that are paid for already.

use bus::{Fetched, Work};
use story::{AuthorKind, Event, EventId, LogEntry, Payload};
use tokio::time::Instant;
use tracing::Instrument;

use super::Step;
use super::paid::Left;
use crate::worker::{HISTORY, Worker};
use crate::{Agent, spans};

/// What a turn is begun with.
pub(super) struct Begin {
    pub(super) fetched: Fetched,
    /// Who may join the beat.
    pub(super) waiting: Vec<Event>,
    /// What an earlier delivery left.
    pub(super) left: Option<Left>,
}

impl<A: Agent> Step<'_, A> {
    /// `None`: what it would answer was taken back.
    pub(super) async fn begun(
        &self,
        work: &Work,
        merges: usize,
        again: bool,
    ) -> Result<Option<Begin>, bus::Error> {
        let bus = &self.worker.bus;
        let ask = || self.timed(bus.context(&self.delivery, (HISTORY, None), merges));
        let fetched = self.insist(ask).instrument(spans::redis("context")).await?;
        // By the log as it is now: that of a turn that is begun again ends where that one's did.
        if !self.stands(work, &fetched.context.history).await? {
            return Ok(None);
        }
        // The last delivery may have died of what had joined it: that is tried once more, and not for ever.
        let may_join = self.delivery.deliveries <= 2;
        let left = Left::of(&fetched).filter(|left| again && (may_join || left.is_alone()));
        if let Some(left) = left {
            let begun = &left.begun;
            let span = (HISTORY, Some(begun.seq));
            let ask = || self.timed(bus.context(&self.delivery, span, begun.waiting.len()));
            let fetched = self.insist(ask).instrument(spans::redis("context")).await?;
            let waiting = waiting(self.worker, work, &fetched, begun.waiting.len());
            if waiting.iter().map(|event| &event.id).eq(&begun.waiting) {
                tracing::info!(
                    answers = left.answers.len(),
                    "an earlier turn paid for answers"
                );
                return Ok(Some(Begin {
                    fetched,
                    waiting,
                    left: Some(left),
                }));
            }
        }
        let waiting = waiting(self.worker, work, &fetched, merges);
        Ok(Some(Begin {
            fetched,
            waiting,
            left: None,
        }))
    }

    /// Whether the event's words are still in the story: if not, what they would have had somebody say is gone too. What an
    /// agent said may be taken back, what a person says never is, and what waits for its verdict is not in the log yet.
    /// Where that was long ago, nothing tells it from what retention let go: neither is answered.
    pub(super) async fn stands(
        &self,
        work: &Work,
        history: &[LogEntry],
    ) -> Result<bool, bus::Error> {
        if work.held || work.event.author.kind != AuthorKind::Agent {
            return Ok(true);
        }
        // Readers have to be told of what is gone, also where a log took the words away and refused to say so.
        if self.worker.name == story::Agent::Moderator {
            return Ok(!was_taken_back(&work.event.id, history));
        }
        let ask = || self.worker.bus.still_at(&self.delivery, history);
        let place = self.insist(ask).await?;
        if let Some(place) = place {
            // Places never change.
            self.answers.get_or_init(|| place);
        }
        Ok(place.is_some())
    }

    /// A read of the context, counted if it was answered.
    async fn timed<T, E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = Instant::now();
        let answer = read.await;
        if answer.is_ok() {
            let took = began.elapsed().as_secs_f64();
            self.worker.meters.contexts.observe(took);
        }
        answer
    }
}

/// The waiting events that may join the beat: of a type that the agent takes, and seen by the same people.
fn waiting<A: Agent>(
    worker: &Worker<A>,
    work: &Work,
    fetched: &Fetched,
    merges: usize,
) -> Vec<Event> {
    let fits = |event: &&Event| {
        worker.agent.takes().contains(&event.kind()) && event.audience == work.event.audience
    };
    let parked = fetched.parked.iter().map(|parked| &parked.event);
    parked.take_while(fits).take(merges).cloned().collect()
}

fn was_taken_back(event: &EventId, history: &[LogEntry]) -> bool {
    let takes = |entry: &LogEntry| matches!(entry.event.payload(), Payload::Retracted(it) if it.target == *event);
    history.iter().any(takes)
}
