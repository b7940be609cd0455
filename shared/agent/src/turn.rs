//! One delivery, from its context to its commit.

mod begin;
mod effects;
mod end;
mod paid;

use std::sync::{Arc, OnceLock};

use bus::{Commit, Delivery, Draft, Fetched, Recording, Work};
use llm::Tape;
use story::{Context, Event, EventId, RecordingPolicy, Seq};
use tokio::time::Instant;
use tracing::Instrument;

use self::begin::Begin;
use self::effects::commit;
use self::end::{hopeless, postponed};
use self::paid::Begun;
use crate::agent::notice;
use crate::desk::Attempt;
use crate::draft::{Watched, Words};
use crate::flags::Tier;
use crate::lease::Held;
use crate::metrics::Outcome;
use crate::recording::Packer;
use crate::retry::Backoff;
use crate::worker::{MAX_DELIVERIES, Worker};
use crate::{Agent, DraftSender, Effects, HandleError, Prompts, Turn, draft, recording, spans};

/// Runs a delivery to its end, or until its lease is lost. `held` keeps its lease for as long.
pub(crate) async fn run<A: Agent>(worker: Arc<Worker<A>>, delivery: Delivery, held: Held) {
    let started = Instant::now();
    let (span, process) = (span(&delivery), spans::turn(&delivery));
    let step = Step {
        worker: &worker,
        prompts: worker.prompts.borrow().clone(),
        attempt: Attempt::new(&delivery.lease.entry, delivery.deliveries),
        delivery,
        held: &held,
        answers: OnceLock::new(),
    };
    let outcome = async {
        tokio::select! {
            biased;
            // First: a commit whose reply is here is done.
            outcome = step.run() => outcome,
            () = held.stop.cancelled() => Outcome::Dropped,
        }
    }
    .instrument(process.clone())
    .instrument(span)
    .await;
    process.record("storyfleet.outcome", outcome.as_str());
    worker.meters.ended(outcome, started.elapsed());
    if outcome == Outcome::Dropped && worker.shutdown.now.is_cancelled() {
        held.leave();
    }
}

fn span(delivery: &Delivery) -> tracing::Span {
    let work = delivery.work.as_ref().ok();
    let trace = work.and_then(|work| work.event.trace.as_ref());
    // Of the highest level: whatever is logged of a turn tells whose it is.
    tracing::error_span!(
        "turn",
        agent = delivery.agent.as_str(),
        story = work.map(|work| work.story.as_str()),
        event = work.map(|work| work.id.as_str()),
        trace = trace.map(story::Traceparent::trace_id),
    )
}

struct Step<'a, A> {
    worker: &'a Worker<A>,
    /// From its begin to its end, whatever is loaded meanwhile.
    prompts: Prompts,
    delivery: Delivery,
    held: &'a Held,
    /// The log's place of what is answered, once it is known: [`bus::Commit::answers`].
    answers: OnceLock<Seq>,
    /// Its calls, as limits know them.
    attempt: Attempt,
}

/// A turn that cannot be committed: what becomes of it instead.
enum Failure {
    /// With how the turn went, where it got so far.
    Handle(HandleError, Option<Recording>),
    Bus(bus::Error),
}

/// Why there is nothing to commit, and how many events had joined the beat.
struct Untold {
    error: Failure,
    joined: usize,
}

impl From<Failure> for Untold {
    fn from(error: Failure) -> Self {
        Self { error, joined: 0 }
    }
}

impl<A: Agent> Step<'_, A> {
    async fn run(&self) -> Outcome {
        let failure = match self.answer().await {
            Ok(outcome) => return outcome,
            Err(failure) => failure,
        };
        let (refusal, recording) = match failure {
            Failure::Handle(error, recording) => (error, recording),
            Failure::Bus(error) => match hopeless(error) {
                Ok(refusal) => (refusal, None),
                Err(error) => return postponed(error),
            },
        };
        if let Some(work) = self.unjudged() {
            match self.commit(self.taken_back(work, &refusal)).await {
                Ok(outcome) => return outcome,
                Err(Failure::Bus(error)) => return postponed(error),
                // Not even that: an operator has its letter.
                Err(Failure::Handle(..)) => {}
            }
        }
        self.failed(&refusal, recording).await
    }

    async fn answer(&self) -> Result<Outcome, Failure> {
        let work = match &self.delivery.work {
            Ok(work) => work,
            Err(malformed) => return Err(refused(malformed.class, malformed.to_string())),
        };
        if let Some(refusal) = self.refusal(work) {
            // No dead letter has the words of what was taken back.
            let stands = self.stands(work, &[]).await.map_err(Failure::Bus)?;
            return match stands {
                true => Err(refusal),
                false => self.commit(self.nothing(work)).await,
            };
        }
        // The last delivery may have died of what had joined it: each event then dies, or not, on its own account.
        let merges = match self.delivery.deliveries {
            0 | 1 => self.worker.agent.merges(),
            _ => 0,
        };
        let told = match self.told(work, merges, true).await {
            // It may be what joined the beat that cannot be told: nothing is given up for what others wrote.
            Err(Untold { error, joined }) if joined > 0 && is_of_the_text(&error) => {
                tracing::info!(joined, "the beat cannot be told: trying the event alone");
                self.told(work, 0, false).await
            }
            told => told,
        };
        let commit = told.map_err(|untold| untold.error)?;
        self.commit(commit).await
    }

    /// Why it is not even tried.
    fn refusal(&self, work: &Work) -> Option<Failure> {
        if self.delivery.deliveries > MAX_DELIVERIES {
            let what = format!("delivered {MAX_DELIVERIES} times without an end");
            return Some(refused("crash", what));
        }
        if !self.worker.agent.takes().contains(&work.event.kind()) {
            let what = format!("{} does not take {:?}", self.worker.name, work.event.kind());
            return Some(refused("unsupported", what));
        }
        None
    }

    /// The entry ends, and nothing comes of it.
    fn nothing(&self, work: &Work) -> Commit {
        Commit {
            responses: vec![work.response(self.worker.name)],
            ..Commit::default()
        }
    }

    /// What the agent makes of the event and of up to `merges` that wait behind it. `again`: where an earlier delivery paid for
    /// answers, the turn is begun as that one was.
    async fn told(&self, work: &Work, merges: usize, again: bool) -> Result<Commit, Untold> {
        let response = work.response(self.worker.name);
        let begun = match self.begun(work, merges, again).await {
            Ok(Some(begun)) => begun,
            // Taken back, or deleted with its story, while it waited: the entry ends without a trace.
            Ok(None) | Err(bus::Error::NoStory(_)) => return Ok(self.nothing(work)),
            Err(error) => return Err(Untold::from(Failure::Bus(error))),
        };
        let policies = begun.fetched.context.policies;
        let waiting = begun.waiting.iter();
        let ids: Vec<EventId> = waiting.map(|event| event.id.clone()).collect();
        let (effects, recording) = self.handle(work, begun).await;
        let commit = effects.and_then(|effects| commit(effects, &ids, policies, response));
        match commit {
            Ok(commit) => Ok(Commit {
                answers: self.answers.get().copied(),
                recording,
                ..commit
            }),
            Err(error) => Err(Untold {
                error: Failure::Handle(error, recording),
                joined: ids.len(),
            }),
        }
    }

    /// The agent's part, with the draft beside it: both end together.
    async fn handle(
        &self,
        work: &Work,
        begin: Begin,
    ) -> (Result<Effects, HandleError>, Option<Recording>) {
        let (fetched, waiting, left) = (begin.fetched, begin.waiting, begin.left);
        let (sender, words) = self.live(work, &fetched.context);
        let packer = self.worker.packer.as_ref();
        let packer = packer.filter(|_| fetched.context.policies.recording == RecordingPolicy::On);
        let llm = self.llm(work, &fetched, &waiting);
        let (llm, tape) = match packer {
            Some(_) => llm.taped(),
            None => (llm, Tape::default()),
        };
        // Last: as long as one of its clones lives, answers may come.
        let anew = fetched.paid.is_some() && left.is_none();
        let bounds = left.as_ref().and_then(|left| left.begun.window);
        let window = bounds.map_or_else(
            || self.worker.window.now(),
            |bounds| self.worker.window.again(bounds),
        );
        let begun = Begun::new(&fetched.context.history, &waiting, &window);
        let (llm, paid) = llm.keeping(left.map_or_else(Vec::new, |left| left.answers));
        let mut turn = Turn {
            agent: self.worker.name,
            event: work.event.clone(),
            part: work.part,
            held: work.held,
            context: fetched.context,
            waiting,
            draft: sender,
            now: fetched.now,
            llm,
            model: self.worker.setup.model.clone(),
            window: Some(window),
            prompts: self.prompts.clone(),
        };
        let draft = self.draft(work);
        let watched = Watched {
            meters: &self.worker.meters,
            action: Some(&work.event).filter(|event| event.awaits_an_end()),
        };
        let attempts = (fetched.attempt, fetched.first_attempt);
        let keep = self.keep(paid, (&draft, &begun), anew);
        let bus = &self.worker.bus;
        let pump = draft::Pump::new(bus, watched, self.held, draft.clone(), attempts);
        let answer = Box::pin(async move {
            let effects = self.worker.agent.handle(&turn).await;
            // As long as they live, the pump waits for its words, and the answers' keeper for answers.
            turn.draft = DraftSender::off();
            turn.llm = self.worker.setup.llm.clone();
            (effects, turn)
        });
        let ((effects, turn), (), ()) = tokio::join!(answer, pump.run(words), keep);
        let recording = packer.and_then(|packer| {
            let setup = &self.worker.setup;
            let made_with = setup.made_with(&self.worker.agent, &turn);
            let ended = effects.as_ref();
            let went = recording::Recording::new(&turn, &made_with, tape.take(), ended);
            self.packed(packer, fetched.epoch, &went)
        });
        (effects, recording)
    }

    /// Where the agent puts its text as it comes, and where that comes out.
    fn live(&self, work: &Work, context: &Context) -> (DraftSender, Words) {
        let output = context.policies.output;
        let (sender, words) = draft::channel(output, &context.content);
        // What only some readers may see never goes over the channel that everybody hears.
        let is_told = work.event.audience.is_none()
            && !Tier::must_see_first(self.worker.settings.tier2, output);
        match is_told {
            true => (sender, words),
            // The draft's own sender ends here: as long as it lives, the pump waits for its words.
            false => (DraftSender::off(), words),
        }
    }

    /// With the keys that are good now, of the models that do not fail, and within the limits.
    fn llm(&self, work: &Work, fetched: &Fetched, joined: &[Event]) -> llm::Client {
        let llm = self.worker.llm.borrow().clone();
        let response = work.response(self.worker.name);
        let desk = &self.worker.desk;
        let made = (&response, self.attempt.clone());
        llm.through(desk.gate(&work.event, joined, &fetched.context.history, made))
    }

    fn draft(&self, work: &Work) -> Draft {
        Draft {
            story: work.story.clone(),
            agent: self.worker.name,
            consumer: self.delivery.consumer.clone(),
            lease: self.delivery.lease.clone(),
            re: work.response(self.worker.name),
            answers: self.answers.get().copied(),
        }
    }

    /// A recording that cannot be kept fails no turn.
    fn packed(
        &self,
        packer: &Packer,
        epoch: String,
        went: &recording::Recording<'_>,
    ) -> Option<Recording> {
        let lost = match packer.pack(went) {
            Ok(Some(bytes)) => {
                let keep = packer.keep;
                return Some(Recording { epoch, bytes, keep });
            }
            Ok(None) => "too_large",
            Err(_) => "failed",
        };
        tracing::warn!(result = lost, "it is not kept how the turn went");
        self.worker.meters.unrecorded(lost);
        None
    }

    /// Asks until Redis answers, however long it is away: the turn ends by itself when its lease is lost. While Redis
    /// refuses everybody (no memory, no disk) it waits likewise, so that good events do not become dead letters.
    async fn insist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, bus::Error>
    where
        F: Future<Output = Result<T, bus::Error>>,
    {
        let mut backoff = Backoff::default();
        let mut asker = self.worker.health.asker();
        let shard = self.delivery.lease.shard;
        loop {
            match ask().await {
                Err(error) if error.is_passing() => {
                    // Stories in other slots go on: whoever looked has told of it.
                    if error.is_away() && self.worker.bus.leaves_out(shard) {
                        asker.rests();
                    } else {
                        asker.failed(error);
                    }
                    backoff.pause().await;
                }
                answer => {
                    asker.answered();
                    return answer;
                }
            }
        }
    }
}

/// Whether fewer words, of fewer people, could end otherwise.
fn is_of_the_text(failure: &Failure) -> bool {
    matches!(failure, Failure::Handle(error, _) if matches!(error.class, "context" | "blocked" | "prompt" | "budget"))
}

fn refused(class: &'static str, what: String) -> Failure {
    let error = HandleError {
        notice: notice(class).to_owned(),
        ..HandleError::permanent(class, anyhow::Error::msg(what))
    };
    Failure::Handle(error, None)
}
