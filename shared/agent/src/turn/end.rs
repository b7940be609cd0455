//! How a turn ends: committed, or given up with a word for readers, for as long as Redis takes to say so.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bus::{Burial, Commit, Committed, Emit, Recording, Work};
use story::{AuthorKind, Event, EventId, Failed, Payload, Retracted, Route, StoryId};
use tracing::{Instrument, Span};

use super::{Failure, Step};
use crate::agent::author;
use crate::metrics::Outcome;
use crate::{Agent, HandleError, exit, spans};

impl<A: Agent> Step<'_, A> {
    /// Applies what the agent made of it; what Redis cannot take is given up, and it is still kept how the turn went.
    pub(super) async fn commit(&self, mut commit: Commit) -> Result<Outcome, Failure> {
        let ask = || self.worker.bus.commit(&self.delivery, &commit);
        let committed = self.end(ask).instrument(spans::redis("commit")).await;
        let refusal = match committed {
            Ok(committed) => {
                let kept = commit.recording.as_ref();
                return Ok(self.ended(&committed, Outcome::Answered, kept));
            }
            Err(error) => hopeless(error).map_err(Failure::Bus)?,
        };
        Err(Failure::Handle(refusal, commit.recording.take()))
    }

    /// Buries what cannot be answered.
    pub(super) async fn failed(
        &self,
        error: &HandleError,
        recording: Option<Recording>,
    ) -> Outcome {
        let deliveries = self.delivery.deliveries;
        spans::failed(&Span::current(), error.class);
        tracing::error!(class = error.class, %error, deliveries, "failed for good: to the dead letters");
        let tries = if error.tries > 0 {
            error.tries
        } else {
            deliveries
        };
        let burial = Burial {
            reason: error.to_string(),
            class: error.class.to_owned(),
            tries,
            failed: self.notice(error, tries),
            answers: self.answers.get().copied(),
            recording,
        };
        let ask = || self.worker.bus.bury(&self.delivery, &burial);
        match self.end(ask).instrument(spans::redis("bury")).await {
            Ok(committed) => {
                let kept = burial.recording.as_ref();
                self.ended(&committed, Outcome::Buried, kept)
            }
            Err(error) => postponed(error),
        }
    }

    /// The answer that readers see before its verdict, where there is none: one that nobody can judge is not to stay.
    pub(super) fn unjudged(&self) -> Option<&Work> {
        let work = self.delivery.work.as_ref().ok()?;
        let is_answer = work.event.author.kind == AuthorKind::Agent;
        let is_judged = self.worker.name == story::Agent::Moderator;
        (is_judged && is_answer && !work.held).then_some(work)
    }

    /// Takes it back. There is no dead letter, which would have its words.
    pub(super) fn taken_back(&self, work: &Work, error: &HandleError) -> Commit {
        tracing::error!(class = error.class, %error, "not judged: it is taken back");
        let event = &work.event;
        let retracted = Payload::Retracted(Retracted {
            target: event.id.clone(),
            reason: "It could not be checked, so it is not shown.".to_owned(),
        });
        let name = self.worker.name;
        let (id, now) = (work.response(name), jiff::Timestamp::now());
        let mut told = Event::new(
            id.clone(),
            event.story.clone(),
            author(name),
            retracted,
            now,
        );
        told.cause = vec![event.id.clone()];
        told.hop = event.hop + 1;
        told.trace.clone_from(&event.trace);
        told.audience.clone_from(&event.audience);
        Commit {
            emit: vec![Emit {
                route: Route::Logged(Vec::new()),
                event: told,
            }],
            retract: Some(event.id.clone()),
            responses: vec![id],
            ..Commit::default()
        }
    }

    /// Asks for a commit or a burial until it is answered. One whose reply was lost, and which then finds its entry gone,
    /// was done.
    async fn end<F>(&self, ask: impl Fn() -> F) -> Result<Committed, bus::Error>
    where
        F: Future<Output = Result<Committed, bus::Error>>,
    {
        self.held.ending();
        let unheard = AtomicBool::new(false);
        let ask = async || {
            let answer = ask().await;
            unheard.fetch_or(matches!(answer, Err(bus::Error::Unheard(_))), Relaxed);
            answer
        };
        Ok(match self.insist(ask).await? {
            Committed::Gone if unheard.load(Relaxed) => Committed::Already,
            committed => committed,
        })
    }

    /// `kept`: how the turn went, which is in Redis if the end is.
    fn ended(&self, committed: &Committed, done: Outcome, kept: Option<&Recording>) -> Outcome {
        let (result, outcome) = match committed {
            Committed::Done(_) | Committed::Already => ("done", done),
            Committed::Gone => ("gone", Outcome::Lost),
            Committed::Fenced => ("fenced", Outcome::Lost),
        };
        self.worker.meters.committed(result);
        if result == "done" {
            let work = self.delivery.work.as_ref().ok();
            if let Some(work) = work.filter(|work| work.event.awaits_an_end()) {
                self.worker.meters.answered(&work.event);
            }
            if let Some(kept) = kept {
                self.worker.meters.recorded(kept.bytes.len());
            }
            // The metrics count these; a line for each slows a busy worker by a tenth.
            tracing::debug!(result, outcome = ?outcome, "ended");
        } else {
            tracing::info!(result, outcome = ?outcome, "ended");
        }
        outcome
    }

    /// The `failed` event, when the entry tells which story and event it is of.
    fn notice(&self, error: &HandleError, tries: u32) -> Option<Event> {
        let (story, id): (&StoryId, &EventId) = match &self.delivery.work {
            Ok(work) => (&work.story, &work.id),
            Err(malformed) => (malformed.story.as_ref()?, malformed.id.as_ref()?),
        };
        let name = self.worker.name;
        // By its entry, so that an event that fails, is sent again and fails again has two of them.
        let maker = format!("{name}/failed/{}", self.delivery.lease);
        let now = jiff::Timestamp::now();
        let payload = Payload::Failed(Failed {
            agent: name.as_str().to_owned(),
            class: error.class.to_owned(),
            tries,
            notice: error.notice.clone(),
        });
        let mut failed = Event::new(
            id.derive(story, &maker, 0, now),
            story.clone(),
            author(name),
            payload,
            now,
        );
        failed.cause = vec![id.clone()];
        match &self.delivery.work {
            // Readers know it by the name in its event.
            Err(malformed) => failed.cause.extend(malformed.named.clone()),
            Ok(work) => {
                let event = &work.event;
                failed.cause = story::ended_with(event, work.held);
                failed.hop = event.hop + 1;
                failed.trace.clone_from(&event.trace);
                failed.audience.clone_from(&event.audience);
            }
        }
        if failed.encode().len() > story::MAX_EVENT_BYTES {
            // No agent answers so many at once. What cannot be told would keep its lane for ever.
            failed.cause = vec![id.clone()];
        }
        Some(failed)
    }
}

/// Why to give up what Redis will take no other time; any other error is given back.
pub(super) fn hopeless(error: bus::Error) -> Result<HandleError, bus::Error> {
    match error {
        bus::Error::TooLarge(bytes) => {
            let what = anyhow::anyhow!("the answer has {bytes} bytes");
            Ok(HandleError::permanent("oversize", what))
        }
        bus::Error::Data(_) | bus::Error::Refused(_) => {
            Ok(HandleError::permanent("internal", error))
        }
        bus::Error::Unheard(error) => hopeless(*error),
        error => Err(error),
    }
}

pub(super) fn postponed(error: bus::Error) -> Outcome {
    let error = anyhow::Error::from(error);
    tracing::error!(
        error = exit::line(&error),
        "not committed: to be tried again when the lease has passed"
    );
    Outcome::Postponed
}
