//! What came of turns, told as a story of its own: the log up to the first of them, then each event and its answer anew.

use std::collections::HashSet;

use bus::{Bus, Stage};
use futures::TryStreamExt;
use story::{Event, EventId, LogEntry, OutputPolicy, Seq, StoryId};

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
    /// What has been told, in its order.
    told: Vec<Event>,
    /// Where the first turn's answer was.
    first: Option<(EventId, Seq)>,
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
        if again.effects.is_none() {
            return;
        }
        self.first
            .get_or_insert_with(|| (again.event.id.clone(), verdict.seq));
        self.told.extend(answered(again));
        let emitted = again.effects.iter().flat_map(|effects| &effects.emit);
        self.told.extend(emitted.map(|emitted| match emitted {
            Emitted::New(event) | Emitted::Passed(event) => event.clone(),
        }));
    }

    /// Makes the story; gives how many events it has.
    pub(crate) async fn end(mut self, source: &Source) -> anyhow::Result<u64> {
        let Some((event, answer)) = self.first else {
            return Ok(0);
        };
        let (mut known, mut last) = (HashSet::new(), Seq(0));
        let mut log = source.log();
        let mut page = Vec::new();
        while let Some(entry) = log.try_next().await? {
            if entry.event.id == event || entry.seq >= answer {
                break;
            }
            known.insert(entry.event.id.clone());
            last = entry.seq;
            page.push(entry);
            if page.len() == AT_ONCE {
                self.stage.log(std::mem::take(&mut page)).await?;
            }
        }
        for event in self.told {
            if known.insert(event.id.clone()) {
                last = Seq(last.0 + 1);
                page.push(LogEntry { seq: last, event });
            }
        }
        self.stage.log(page).await?;
        let keep = Packer::default().keep;
        let Known { story, redriven } = &self.of;
        self.stage.adopt(story, redriven, keep).await?;
        Ok(last.0)
    }
}

/// The event of a turn, and what joined it.
fn answered<'a>(turn: &'a Recording<'_>) -> impl Iterator<Item = Event> + 'a {
    let merged = turn.effects.as_ref().map_or(0, |effects| effects.merged);
    let joined = turn.waiting.iter().take(merged);
    std::iter::once(&*turn.event).chain(joined).cloned()
}
