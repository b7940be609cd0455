//! Where recordings come from: a story in Redis, or a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bus::{Bus, Story};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use story::{EventId, LogEntry, Seq, StoryId};

use super::places::Places;
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

/// A recording in its place.
pub(crate) struct Found {
    /// As it was recorded.
    pub(crate) seq: Seq,
    /// As the log has it: see [`Places::place`].
    pub(crate) place: Seq,
    pub(crate) agent: String,
    pub(crate) id: EventId,
    pub(crate) epoch: String,
    /// Or why it cannot be unpacked.
    pub(crate) json: Result<Vec<u8>, recording::Error>,
}

/// How many recordings were not gone through, by why.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    other_agents: AtomicU64,
    earlier_lives: AtomicU64,
    other_places: AtomicU64,
}

impl PassedOver {
    /// Each reason, as programs and as people read it.
    pub(crate) fn counts(&self) -> [(&'static str, &'static str, u64); 3] {
        [
            ("other_agents", "of other agents", &self.other_agents),
            (
                "earlier_lives",
                "of an earlier life of the log, whose places mean other events",
                &self.earlier_lives,
            ),
            (
                "other_places",
                "at places that were not asked for",
                &self.other_places,
            ),
        ]
        .map(|(name, words, count)| (name, words, count.load(Relaxed)))
    }
}

/// Of a story, what goes with its log into another one.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) story: Story,
    /// How often events of it were sent again after a failure.
    pub(crate) redriven: BTreeMap<EventId, u64>,
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

    /// Those in the log as it is now, at these places.
    pub(crate) fn turns<'a>(
        &self,
        places: &'a Places,
        passed_over: &'a PassedOver,
    ) -> BoxStream<'a, anyhow::Result<Found>> {
        let epoch = self.epoch().to_owned();
        let placed = move |mut found: Found| {
            let why = if found.agent != places.agent().as_str() {
                Some(&passed_over.other_agents)
            } else if found.epoch != epoch {
                Some(&passed_over.earlier_lives)
            } else {
                found.place = places.place(&found);
                (!places.has(found.place)).then_some(&passed_over.other_places)
            };
            why.map(|count| count.fetch_add(1, Relaxed));
            std::future::ready(Ok(why.is_none().then_some(found)))
        };
        self.all().try_filter_map(placed).boxed()
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
        place: kept.seq,
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
            place: kept.seq,
            agent: kept.agent,
            id: kept.id,
            epoch: kept.epoch,
            json: Ok(kept.turn.get().as_bytes().to_vec()),
        })),
        Ok(_) => None,
        Err(error) => Some(Err(error.into())),
    })
}
