//! What a turn is begun with: the story as it is now, who may join the beat, and the answers that are paid for already.

use bus::{Fetched, Work};
use story::{AuthorKind, Event, EventId, LogEntry, Payload, Seq};
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
    /// The log's place of what is answered: [`bus::Commit::answers`].
    pub(super) answers: Option<Seq>,
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
        if was_taken_back(&work.event.id, &fetched.context.history) {
            return Ok(None);
        }
        let answers = place(&work.event, &fetched.context.history);
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
                    answers,
                }));
            }
        }
        let waiting = waiting(self.worker, work, &fetched, merges);
        Ok(Some(Begin {
            fetched,
            waiting,
            left: None,
            answers,
        }))
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

/// Whether the event's words are gone from the log: what they would have had somebody say is gone too.
fn was_taken_back(event: &EventId, history: &[LogEntry]) -> bool {
    let takes = |entry: &LogEntry| matches!(entry.event.payload(), Payload::Retracted(it) if it.target == *event);
    history.iter().any(takes)
}

/// Where the log has the event, if it may be taken back: what a person says never is.
fn place(event: &Event, history: &[LogEntry]) -> Option<Seq> {
    let mut history = history.iter().rev();
    let entry = history.find(|entry| entry.event.id == event.id)?;
    (event.author.kind == AuthorKind::Agent).then_some(entry.seq)
}
