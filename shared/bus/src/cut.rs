//! What something else than retention and retraction took from a story's log: out of its middle; or from its beginning, and the
//! actions of which nothing tells any more. They are not lost, as those are that no agent has and nobody answered.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;
use story::{EventId, Seq, StoryId};

use crate::log::seq;
use crate::reply::{Entry, read};
use crate::work::field;
use crate::{Bus, Error};

/// A story whose log was destroyed from its beginning on: somebody deleted its key, or trimmed it by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    pub story: StoryId,
    /// Where the log begins now; `None`: nothing of it is left.
    pub begins: Option<Seq>,
    /// Actions that were accepted before, and whose end, if they had one, went with it.
    pub actions: u64,
}

/// Events that are missing between two of a story's log: somebody deleted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hole {
    pub story: StoryId,
    /// The first one.
    pub from: Seq,
    /// The last one.
    pub upto: Seq,
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, upto, .. } = self;
        if from == upto {
            write!(f, "event {from}")
        } else {
            write!(f, "events {from} to {upto}")
        }
    }
}

impl Bus {
    /// Takes out of `missing` what the destroyed part may have told of. `read` is where the log was read up to, `counted`
    /// where it ends by its own count.
    pub(crate) async fn cut(
        &self,
        story: &StoryId,
        (read, counted): (Seq, Seq),
        accepted: &[(EventId, f64)],
        missing: &mut Vec<(EventId, Option<Seq>)>,
    ) -> Result<Option<Cut>, Error> {
        let is_gone = read == Seq(0) && counted > Seq(0);
        if !is_gone && missing.iter().all(|(_, place)| place.is_some()) {
            return Ok(None);
        }
        let (begins, since) = match self.first_of_log(story).await? {
            _ if counted == Seq(0) => return Ok(None),
            Some((Seq(1), _)) => return Ok(None),
            Some((begins, at)) => (Some(begins), at),
            None => (None, f64::INFINITY),
        };
        let accepted: HashMap<&EventId, f64> = accepted.iter().map(|(id, at)| (id, *at)).collect();
        let before = missing.len();
        missing.retain(|(id, place)| {
            place.is_some() || accepted.get(id).is_some_and(|at| *at > since)
        });
        let actions = u64::try_from(before - missing.len()).unwrap_or(u64::MAX);
        let is_cut = begins.is_none() || actions > 0;
        Ok(is_cut.then(|| Cut {
            story: story.clone(),
            begins,
            actions,
        }))
    }

    /// Where the log begins, and the time in ms of that event.
    async fn first_of_log(&self, story: &StoryId) -> Result<Option<(Seq, f64)>, Error> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.keys.log(story)).arg("-").arg("+");
        cmd.arg("COUNT").arg(1);
        let first: Vec<Entry> = read(self.link.query(&cmd).await?)?;
        let Some((id, fields)) = first.first() else {
            return Ok(None);
        };
        let at = field(fields, "t").and_then(|at| std::str::from_utf8(at).ok()?.parse().ok());
        Ok(Some((seq(id)?, at.unwrap_or(0.0))))
    }
}
