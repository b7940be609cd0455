//! How the turns of agents went, kept beside the story for their replay. What is in a recording is for `agent` to know.

use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use story::{EventId, Seq, StoryId};

use crate::log::seq;
use crate::reply::{Entry, Fields, read};
use crate::script::Call;
use crate::work::field;
use crate::{Bus, Error};

/// What one read gives: each may have hundreds of KiB.
const PAGE: usize = 16;

/// How a turn went, and how long that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The life of the log that the turn was of.
    pub epoch: String,
    pub bytes: Vec<u8>,
    pub keep: Keep,
}

/// How many recordings of a story stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// About so many, the last ones.
    pub turns: u32,
    /// None that is older.
    pub age: Duration,
}

/// A recording in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub agent: String,
    /// The event that was answered.
    pub id: EventId,
    /// The place of the answer; where it is not in the log, the log's end then.
    pub seq: Seq,
    /// The life of that log.
    pub epoch: String,
    pub bytes: Vec<u8>,
}

impl Recording {
    pub(crate) fn args(&self, id: &EventId, call: &mut Call) {
        let age = u64::try_from(self.keep.age.as_millis()).unwrap_or(u64::MAX);
        call.arg(id.as_str())
            .arg(self.epoch.as_str())
            .number(self.keep.turns)
            .number(age)
            .arg(self.bytes.as_slice());
    }
}

impl Bus {
    /// All of them, oldest first; no more than a page is in memory. What others wrote there is left out, and logged.
    ///
    /// # Errors
    /// When Redis was not reached.
    pub fn all_recordings(
        &self,
        story: &StoryId,
    ) -> impl Stream<Item = Result<Kept, Error>> + use<> {
        let (bus, story) = (self.clone(), story.clone());
        let pages = stream::try_unfold(None::<String>, move |place| {
            let (bus, story) = (bus.clone(), story.clone());
            async move {
                let page = bus.recorded_behind(&story, place.as_deref()).await?;
                let last = page.last().map(|(place, _)| place.clone());
                let page = page.into_iter().filter_map(move |(place, fields)| {
                    let kept = kept(fields);
                    if kept.is_none() {
                        tracing::error!(%story, place, "an entry is no recording: it is left out");
                    }
                    kept
                });
                Ok::<_, Error>(last.map(|last| (stream::iter(page).map(Ok), Some(last))))
            }
        });
        pages.try_flatten()
    }

    /// Entries behind `place` (none: from the first one on), oldest first; some of them. None: there are no more.
    async fn recorded_behind(
        &self,
        story: &StoryId,
        place: Option<&str>,
    ) -> Result<Vec<Entry>, Error> {
        let from = place.map_or_else(|| "-".to_owned(), |place| format!("({place}"));
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.keys.recordings(story)).arg(from).arg("+");
        cmd.arg("COUNT").arg(PAGE);
        read(self.link.query(&cmd).await?)
    }
}

fn kept(mut fields: Fields) -> Option<Kept> {
    let text = |name| std::str::from_utf8(field(&fields, name)?).ok();
    let (agent, id) = (text("agent")?.to_owned(), text("id")?.parse().ok()?);
    let epoch = text("epoch")?.to_owned();
    let seq = seq(&format!("{}-0", text("seq")?)).ok()?;
    let bytes = fields.iter_mut().find(|(name, _)| name == b"z")?;
    Some(Kept {
        agent,
        id,
        seq,
        epoch,
        bytes: std::mem::take(&mut bytes.1),
    })
}
