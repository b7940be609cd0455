//! What came of turns, told as a story of its own: the log up to the first of them, then each event and its answer anew.

use std::collections::HashSet;

use bus::{Bus, Stage};
use futures::TryStreamExt;
use story::{Event, EventId, LogEntry, OutputPolicy, Payload, Seq, StoryId};

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
    /// Where the first turn's answer was.
    first: Option<(EventId, Seq)>,
}

/// A turn that was answered.
struct Told {
    answered: Vec<Event>,
    answers: Vec<Event>,
}

impl Publication {
    /// # Errors
    /// When there is such a story: a replay never writes into one. When the story's answers are judged: these are not.
    pub(crate) async fn begin(bus: &Bus, id: &StoryId, of: Known) -> anyhow::Result<Self> {
        if of.story.policies.output != OutputPolicy::Off {
            let what = format!(
                "the answers of {} are judged before or after readers see them, and those of a replay are not: they are not told",
                of.story.id
            );
            return Err(exit::configuration(anyhow::anyhow!(what)));
        }
        bus.check_server().await?;
        bus.check_rights(bus::Role::Operator).await?;
        Ok(Self {
            stage: bus.stage(id).await?,
            of,
            told: Vec::new(),
            first: None,
        })
    }

    /// A turn without an answer is left out: nobody is to answer it now.
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        let Ok(Went { again, .. }) = &verdict.went else {
            return;
        };
        let Some(effects) = &again.effects else {
            return;
        };
        self.first
            .get_or_insert_with(|| (again.event.id.clone(), verdict.seq));
        let answers = effects.emit.iter().map(|emitted| match emitted {
            Emitted::New(event) | Emitted::Passed(event) => event.clone(),
        });
        self.told.push(Told {
            answered: answered(again).collect(),
            answers: answers.collect(),
        });
    }

    /// Makes the story; gives how many events it has.
    pub(crate) async fn end(self, source: &Source) -> anyhow::Result<u64> {
        let Self {
            stage,
            of,
            told,
            first,
        } = self;
        let Some(first) = first else {
            return Ok(0);
        };
        stage
            .through(async |stage| put(stage, source, &of, told, first).await)
            .await
    }
}

async fn put(
    stage: &mut Stage,
    source: &Source,
    of: &Known,
    mut told: Vec<Told>,
    (event, answer): (EventId, Seq),
) -> anyhow::Result<u64> {
    let is_before = |entry: &LogEntry| entry.event.id != event && entry.seq < answer;
    let (mut ended, retracted) = seen(source, is_before).await?;
    // What was taken back from readers is told to none.
    told.retain(|turn| {
        turn.answers
            .iter()
            .all(|answer| !retracted.contains(&answer.id))
    });
    ended.extend(told.iter().flat_map(|turn| &turn.answers).flat_map(ends));

    let (mut known, mut left_out) = (HashSet::new(), HashSet::new());
    let (mut log, mut page, mut last) = (source.log(), Vec::new(), Seq(0));
    while let Some(entry) = log.try_next().await? {
        if !is_before(&entry) {
            break;
        }
        // What is answered only later, or never: somebody would take it for lost.
        let waits = entry.event.awaits_an_end() && !ended.contains(&entry.event.id);
        if waits
            || entry
                .event
                .cause
                .iter()
                .any(|cause| left_out.contains(cause))
        {
            left_out.insert(entry.event.id);
            continue;
        }
        known.insert(entry.event.id.clone());
        // Without a hole where something is left out.
        let seq = if last == Seq(0) {
            entry.seq
        } else {
            Seq(last.0 + 1)
        };
        last = seq;
        page.push(LogEntry { seq, ..entry });
        if page.len() == AT_ONCE {
            stage.log(std::mem::take(&mut page)).await?;
        }
    }
    let told = told
        .into_iter()
        .flat_map(|turn| [turn.answered, turn.answers]);
    for event in told.flatten() {
        if known.insert(event.id.clone()) {
            last = Seq(last.0 + 1);
            page.push(LogEntry { seq: last, event });
        }
    }
    let events = u64::try_from(known.len())?;
    stage.log(page).await?;
    let keep = Packer::default().keep;
    stage.adopt(&of.story, &of.redriven, keep).await?;
    Ok(events)
}

/// The events that have their end before a place, and those that were taken back anywhere.
async fn seen(
    source: &Source,
    is_before: impl Fn(&LogEntry) -> bool,
) -> anyhow::Result<(HashSet<EventId>, HashSet<EventId>)> {
    let (mut ended, mut retracted) = (HashSet::new(), HashSet::new());
    let (mut log, mut before) = (source.log(), true);
    while let Some(entry) = log.try_next().await? {
        before &= is_before(&entry);
        if before {
            ended.extend(ends(&entry.event));
        }
        if let Payload::Retracted(taken) = entry.event.payload() {
            retracted.insert(taken.target.clone());
        }
    }
    Ok((ended, retracted))
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
