//! What came of turns, told as a story of its own: the log up to the first of them, then each event and its answer anew.

use std::collections::{HashMap, HashSet};
use std::future::ready;

use bus::{Bus, Stage};
use futures::TryStreamExt;
use story::{Agent, Decision, Event, EventId, LogEntry, OutputPolicy, Payload, Seq, StoryId};

use super::report::{Verdict, Went};
use super::source::{Known, Source};
use crate::recording::{Packer, Recording};
use crate::{Emitted, exit};

/// Events written at once.
const AT_ONCE: usize = 200;

pub(crate) struct Publication {
    stage: Stage,
    /// What is known of the story that the turns are of.
    of: Known,
    /// In their order; all of them are in memory.
    told: Vec<Told>,
}

/// A turn that was answered.
struct Told {
    /// Of its answer, in the log.
    place: Seq,
    answered: Vec<Event>,
    answers: Vec<Event>,
}

/// What the whole log says of what is told.
#[derive(Default)]
struct Said {
    /// What was taken back from readers, or never shown to them.
    gone: HashSet<EventId>,
    /// What told events answer and the turns do not have.
    causes: HashMap<EventId, Event>,
}

impl Publication {
    /// # Errors
    /// When there is such a story: a replay never writes into one. When the story's answers are judged: these are not. When
    /// the agent tells readers nothing.
    pub(crate) async fn begin(
        bus: &Bus,
        id: &StoryId,
        of: Known,
        agent: Agent,
    ) -> anyhow::Result<Self> {
        let what = if agent == Agent::Moderator {
            "the moderator tells readers nothing: --publish-to is for the others".to_owned()
        } else if of.story.policies.output != OutputPolicy::Off {
            format!(
                "the answers of {} are judged before or after readers see them, and those of a replay are not: they are not told",
                of.story.id
            )
        } else {
            bus.check_server().await?;
            bus.check_rights(bus::Role::Operator).await?;
            return Ok(Self {
                stage: bus.stage(id).await?,
                of,
                told: Vec::new(),
            });
        };
        Err(exit::configuration(anyhow::anyhow!(what)))
    }

    /// A turn without an answer is left out: nobody is to answer it now.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        let Ok(Went { again, .. }) = &verdict.went else {
            return;
        };
        let Some(effects) = &again.effects else {
            return;
        };
        let answers = effects.emit.iter().map(|emitted| match emitted {
            Emitted::New(event) | Emitted::Passed(event) => event.clone(),
        });
        self.told.push(Told {
            place: verdict.place,
            answered: answered(again).collect(),
            answers: answers.collect(),
        });
    }

    /// Makes the story, unless there is nothing to tell; gives how many events it has.
    pub(crate) async fn end(self, source: &Source) -> anyhow::Result<u64> {
        let Self {
            stage,
            of,
            mut told,
        } = self;
        let said = said(source, &told).await?;
        let is_gone = |event: &Event| said.gone.contains(&event.id);
        told.retain(|turn| !turn.events().any(is_gone));
        let Some(first) = told.iter().map(|turn| turn.place).min() else {
            return Ok(0);
        };
        stage
            .through(async |stage| put(stage, source, &of, (told, first), said.causes).await)
            .await
    }
}

impl Told {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.answered.iter().chain(&self.answers)
    }
}

async fn said(source: &Source, told: &[Told]) -> anyhow::Result<Said> {
    let events = || told.iter().flat_map(Told::events);
    let ours: HashSet<&EventId> = events().map(|event| &event.id).collect();
    let causes = events().flat_map(|event| &event.cause);
    let wanted: HashSet<&EventId> = causes.filter(|cause| !ours.contains(cause)).collect();
    let (mut said, mut log) = (Said::default(), source.log());
    while let Some(LogEntry { event, .. }) = log.try_next().await? {
        match event.payload() {
            Payload::Retracted(taken) => said.gone.insert(taken.target.clone()),
            Payload::Verdict(verdict) if verdict.decision == Decision::Block => {
                said.gone.insert(verdict.target.clone())
            }
            _ => false,
        };
        if wanted.contains(&event.id) {
            said.causes.insert(event.id.clone(), event);
        }
    }
    Ok(said)
}

/// The log up to the answer of the first turn, then what is told.
async fn put(
    stage: &mut Stage,
    source: &Source,
    of: &Known,
    (told, first): (Vec<Told>, Seq),
    mut causes: HashMap<EventId, Event>,
) -> anyhow::Result<u64> {
    let mut ended: HashSet<EventId> = told.iter().flat_map(Told::events).flat_map(ends).collect();
    let is_before = |entry: &LogEntry| ready(Ok(entry.seq < first));
    let mut log = source.log().try_take_while(is_before);
    while let Some(entry) = log.try_next().await? {
        ended.extend(ends(&entry.event));
    }

    let (mut known, mut left_out) = (HashSet::new(), HashSet::new());
    let (mut log, mut page, mut last) = (source.log().try_take_while(is_before), Vec::new(), None);
    while let Some(entry) = log.try_next().await? {
        // Without a hole where something is left out.
        let before = *last.get_or_insert(entry.seq.0 - 1);
        let event = entry.event;
        // What is answered only later, or never: somebody would take it for lost.
        let waits = event.awaits_an_end() && !ended.contains(&event.id);
        let orphaned = event.cause.iter().any(|cause| left_out.contains(cause));
        if waits || orphaned {
            left_out.insert(event.id);
        } else if known.insert(event.id.clone()) {
            last = Some(before + 1);
            let seq = Seq(before + 1);
            page.push(LogEntry { seq, event });
        }
        if page.len() == AT_ONCE {
            stage.log(std::mem::take(&mut page)).await?;
        }
    }
    let mut last = last.unwrap_or(0);
    let told = told
        .into_iter()
        .flat_map(|turn| [turn.answered, turn.answers]);
    for event in told.flatten() {
        let behind = event.cause.iter().filter_map(|cause| causes.remove(cause));
        for event in behind.collect::<Vec<_>>().into_iter().chain([event]) {
            if known.insert(event.id.clone()) {
                last += 1;
                let seq = Seq(last);
                page.push(LogEntry { seq, event });
            }
        }
    }
    let events = u64::try_from(known.len())?;
    stage.log(page).await?;
    let keep = Packer::default().keep;
    stage.adopt(&of.story, &of.redriven, keep).await?;
    Ok(events)
}

/// The events that `event` is the end of.
fn ends(event: &Event) -> impl Iterator<Item = EventId> {
    let ended = story::outcome(event).map_or(&[][..], |(_, causes)| causes);
    ended.iter().cloned()
}

/// The event of a turn, and what joined it.
fn answered<'a>(turn: &'a Recording<'_>) -> impl Iterator<Item = Event> + 'a {
    let merged = turn.effects.as_ref().map_or(0, |effects| effects.merged);
    let joined = turn.waiting.iter().take(merged);
    std::iter::once(&*turn.event).chain(joined).cloned()
}
