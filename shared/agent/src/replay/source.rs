//! Where recordings come from: a story in Redis, or a file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use bus::{Bus, Story};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use story::{AuthorKind, Event, EventId, LogEntry, Payload, Seq, StoryId};

use crate::archive::{Archive, Line};
use crate::recording::{self, Recording};

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Story {
        bus: Box<Bus>,
        id: StoryId,
        epoch: String,
    },
    File {
        path: PathBuf,
        epoch: String,
    },
}

/// A part of the log that is asked for.
#[derive(Debug)]
pub(crate) struct Part {
    places: RangeInclusive<u64>,
    /// All of the agent's, by their ids.
    answers: HashMap<EventId, Seq>,
}

/// A recording in its place.
pub(crate) struct Found {
    pub(crate) seq: Seq,
    pub(crate) agent: String,
    pub(crate) id: EventId,
    pub(crate) epoch: String,
    /// Or why it cannot be unpacked.
    pub(crate) json: Result<Vec<u8>, recording::Error>,
}

/// Of a story, what goes with its log into another one.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) story: Story,
    /// How often events of it were sent again after a failure.
    pub(crate) redriven: BTreeMap<EventId, u64>,
}

/// Answers of the agent that there is no recording of.
pub(crate) type Lost = Vec<(Seq, EventId)>;

impl Part {
    /// The place of an answer that waited for a verdict is none that its recording could have: that has the log's end.
    fn has(&self, found: &Found, agent: story::Agent) -> bool {
        #[derive(Deserialize)]
        struct Answered {
            event: Event,
            part: u32,
            effects: Option<IgnoredAny>,
        }
        let answer = || {
            let json = found.json.as_ref().ok()?;
            let answered: Answered = serde_json::from_slice(json).ok()?;
            // One that failed may have been answered by a later turn.
            answered.effects?;
            Some(answered.event.response(agent, answered.part))
        };
        let place = answer().and_then(|id| self.answers.get(&id).copied());
        self.places.contains(&place.unwrap_or(found.seq).0)
    }

    /// What is not among the answers that were `told`, in the log's order.
    pub(crate) fn lost(self, told: &HashSet<EventId>) -> Lost {
        let lost = self
            .answers
            .into_iter()
            .filter(|(id, seq)| self.places.contains(&seq.0) && !told.contains(id));
        let mut lost: Lost = lost.map(|(id, seq)| (seq, id)).collect();
        lost.sort();
        lost
    }
}

impl Source {
    pub(crate) async fn story(bus: Bus, id: StoryId) -> anyhow::Result<Self> {
        let epoch = bus.story(&id).await?.epoch;
        Ok(Self::Story {
            bus: Box::new(bus),
            id,
            epoch,
        })
    }

    pub(crate) fn file(path: PathBuf) -> anyhow::Result<Self> {
        let epoch = Archive::open(&path)?.head.story.epoch;
        Ok(Self::File { path, epoch })
    }

    fn epoch(&self) -> &str {
        match self {
            Self::Story { epoch, .. } | Self::File { epoch, .. } => epoch,
        }
    }

    /// All recordings, of every agent and of every life of the log, in their order.
    fn all(&self) -> BoxStream<'static, anyhow::Result<Found>> {
        match self.clone() {
            Self::Story { bus, id, .. } => {
                bus.all_recordings(&id).map(|kept| Ok(found(kept?))).boxed()
            }
            Self::File { path, .. } => match Archive::open(&path) {
                Ok(archive) => stream::iter(recorded(archive)).boxed(),
                Err(error) => stream::iter([Err(error.into())]).boxed(),
            },
        }
    }

    /// Those of `agent` in the log as it is now, or in a part of it.
    pub(crate) fn turns<'a>(
        &self,
        agent: story::Agent,
        part: Option<&'a Part>,
    ) -> BoxStream<'a, anyhow::Result<Found>> {
        let epoch = self.epoch().to_owned();
        let meant = move |found: &Found| {
            let of_now = found.agent == agent.as_str() && found.epoch == epoch;
            of_now && part.is_none_or(|part| part.has(found, agent))
        };
        let all = self
            .all()
            .try_filter(move |found| std::future::ready(meant(found)));
        all.boxed()
    }

    /// How many recordings there are in all, by agent, and how many are of another life of the log.
    pub(crate) async fn census(&self) -> anyhow::Result<Vec<(String, bool, u64)>> {
        let mut census: Vec<(String, bool, u64)> = Vec::new();
        let mut all = self.all();
        while let Some(found) = all.try_next().await? {
            let is_of_now = found.epoch == self.epoch();
            let known = census
                .iter_mut()
                .find(|(agent, now, _)| *agent == found.agent && *now == is_of_now);
            match known {
                Some((_, _, count)) => *count += 1,
                None => census.push((found.agent, is_of_now, 1)),
            }
        }
        Ok(census)
    }

    /// What is known of the story.
    pub(crate) async fn known(&self) -> anyhow::Result<Known> {
        Ok(match self {
            Self::Story { bus, id, .. } => Known {
                story: bus.story(id).await?,
                redriven: bus.redriven(id).await?,
            },
            Self::File { path, .. } => {
                let head = *Archive::open(path)?.head;
                Known {
                    story: head.story,
                    redriven: head.redriven,
                }
            }
        })
    }

    /// Its log, from the first event that is left.
    pub(crate) fn log(&self) -> BoxStream<'static, anyhow::Result<LogEntry>> {
        match self.clone() {
            Self::Story { bus, id, .. } => bus.whole_log(&id).map_err(Into::into).boxed(),
            Self::File { path, .. } => match Archive::open(&path) {
                Ok(archive) => stream::iter(written(archive)).boxed(),
                Err(error) => stream::iter([Err(error.into())]).boxed(),
            },
        }
    }

    /// The part of the log at these places, as `agent` answered there.
    pub(crate) async fn part(
        &self,
        agent: story::Agent,
        places: RangeInclusive<u64>,
    ) -> anyhow::Result<Part> {
        let mut answers = HashMap::new();
        let mut log = self.log();
        while let Some(entry) = log.try_next().await? {
            let event = entry.event;
            let by = event.author.kind == AuthorKind::Agent && event.author.id == agent.as_str();
            let answered = matches!(
                event.payload(),
                Payload::Narration(_)
                    | Payload::Dialogue(_)
                    | Payload::Verdict(_)
                    | Payload::Retracted(_)
            );
            if by && answered {
                answers.insert(event.id, entry.seq);
            }
        }
        Ok(Part { places, answers })
    }
}

fn written(archive: Archive) -> impl Iterator<Item = anyhow::Result<LogEntry>> {
    archive.filter_map(|line| match line {
        Ok(Line::Log(entry)) => Some(Ok(*entry)),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    })
}

fn found(kept: bus::Kept) -> Found {
    Found {
        seq: kept.seq,
        agent: kept.agent,
        id: kept.id,
        epoch: kept.epoch,
        json: Recording::unpacked(&kept.bytes),
    }
}

fn recorded(archive: Archive) -> impl Iterator<Item = anyhow::Result<Found>> {
    archive.filter_map(|line| match line {
        Ok(Line::Recording(kept)) => Some(Ok(Found {
            seq: kept.seq,
            agent: kept.agent,
            id: kept.id,
            epoch: kept.epoch,
            json: Ok(kept.turn.get().as_bytes().to_vec()),
        })),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    })
}
