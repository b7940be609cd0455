//! A story's log, in pages without holes: an event that was taken back is still there, without its words.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use story::{Event, LogEntry, Seq, StoryId};

use crate::reply::{Entry, Fields, next, read};
use crate::view::Page;
use crate::work::field;
use crate::{Bus, Error};

/// Of one read of many.
const PAGE: usize = 200;
/// The most that one read gives.
const MAX_PAGE: usize = 1_000;

impl Bus {
    /// The events after `after`, oldest first, at most `limit` (and at most 1,000). Where retention removed the first
    /// ones, it starts with the oldest that is left.
    ///
    /// # Errors
    /// [`Error::NoStory`]; or when Redis is not reached or refuses.
    pub async fn log(
        &self,
        story: &StoryId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        Ok(self.page(story, after, limit).await?.entries)
    }

    /// All of the log, from the oldest event that is left; no more than a page is in memory.
    pub fn whole_log(
        &self,
        story: &StoryId,
    ) -> impl Stream<Item = Result<LogEntry, Error>> + use<> {
        let (bus, story) = (self.clone(), story.clone());
        let pages = stream::try_unfold(Seq(0), move |after| {
            let (bus, story) = (bus.clone(), story.clone());
            async move {
                let page = bus.log(&story, after, PAGE).await?;
                let last = page.last().map(|entry| entry.seq);
                Ok(last.map(|last| (stream::iter(page).map(Ok), last)))
            }
        });
        pages.try_flatten()
    }

    pub(crate) async fn page(
        &self,
        story: &StoryId,
        after: Seq,
        limit: usize,
    ) -> Result<Page, Error> {
        let limit = u64::try_from(limit.clamp(1, MAX_PAGE)).unwrap_or(u64::MAX);
        let mut pipe = redis::pipe();
        // Before the entries: the log reaches at least to this end.
        pipe.cmd("HMGET")
            .arg(self.keys.ctx(story))
            .arg(&["epoch", "renewed", "seq"]);
        pipe.cmd("XRANGE")
            .arg(self.keys.log(story))
            .arg(format!("{}-0", after.0.saturating_add(1)));
        pipe.arg("+").arg("COUNT").arg(limit);
        let mut replies = self.link.pipe(&pipe).await?.into_iter();
        let (epoch, renewed, end): (Option<String>, Option<String>, Option<u64>) =
            next(&mut replies)?;
        let epoch = epoch.ok_or_else(|| Error::NoStory(story.clone()))?;
        let epoch = renewed.unwrap_or(epoch);
        let stored: Vec<Entry> = next(&mut replies)?;
        let mut entries = stored
            .iter()
            .map(|(id, fields)| Ok((seq(id)?.0, event(story, id, fields))))
            .collect::<Result<BTreeMap<u64, Event>, Error>>()?;
        let last = entries.keys().next_back().copied().unwrap_or(0);
        let end = end.unwrap_or(0).max(last);
        let from = after.0.saturating_add(1);
        let mut upto = end.min(after.0.saturating_add(limit));
        self.fill(story, &mut entries, from..=upto).await?;
        let next = entries.range(upto.saturating_add(1)..).next();
        if let (Some((&next, _)), false) = (next, entries.contains_key(&upto)) {
            // Neither an event nor what is left of one: retention was here, or something that destroys.
            upto = end.min(next.saturating_add(limit - 1));
            self.fill(story, &mut entries, next..=upto).await?;
        }
        let entries = entries.range(from..).take_while(|(seq, _)| **seq <= upto);
        let entries = entries.take(usize::try_from(limit).unwrap_or(usize::MAX));
        let entries = entries.map(|(seq, event)| LogEntry {
            seq: Seq(*seq),
            event: event.clone(),
        });
        let (end, entries) = (Seq(end), entries.collect());
        Ok(Page {
            epoch,
            end,
            entries,
        })
    }

    /// Puts what is left of the events that were taken back into their places.
    async fn fill(
        &self,
        story: &StoryId,
        entries: &mut BTreeMap<u64, Event>,
        window: std::ops::RangeInclusive<u64>,
    ) -> Result<(), Error> {
        let missing: Vec<u64> = window.filter(|seq| !entries.contains_key(seq)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.gone(story)).arg(&missing);
        let tombstones: Vec<Option<Vec<u8>>> = read(self.link.query(&cmd).await?)?;
        for (seq, tombstone) in missing.into_iter().zip(tombstones) {
            if let Some(json) = tombstone {
                entries.insert(seq, decode(story, &format!("{seq}-0"), &json));
            }
        }
        Ok(())
    }
}

/// The last place where a log that is put together may end: what comes then has room.
pub const MAX_PLACE: u64 = LAST / 10;
/// The last place that a script writes with all its digits.
const LAST: u64 = 99_999_999_999_999;

/// The place that an entry's id `<seq>-0` is.
pub(crate) fn seq(id: &str) -> Result<Seq, Error> {
    let seq = id.strip_suffix("-0").and_then(|seq| seq.parse().ok());
    seq.filter(|seq| *seq <= LAST)
        .map(Seq)
        .ok_or_else(|| Error::data(format!("the log has an entry '{id}'")))
}

/// The event of an entry, if this version can act on it.
pub(crate) fn readable(fields: &Fields) -> Option<Event> {
    Event::decode(json(fields)).ok()
}

fn event(story: &StoryId, id: &str, fields: &Fields) -> Event {
    decode(story, id, json(fields))
}

fn json(fields: &Fields) -> &[u8] {
    field(fields, "e").unwrap_or_default()
}

/// Whatever a program of other people put there, it keeps its place: as an event of the type `unreadable`.
fn decode(story: &StoryId, id: &str, json: &[u8]) -> Event {
    Event::carry(json).unwrap_or_else(|error| {
        tracing::warn!(%story, id, %error, "an entry of the log is not an event");
        let placeholder = serde_json::json!({
            "v": story::VERSION, "id": format!("unreadable-{id}"), "type": "unreadable", "story": story,
            "author": {"kind": "agent", "id": "unknown"}, "at": jiff::Timestamp::UNIX_EPOCH,
        });
        Event::decode(placeholder.to_string().as_bytes())
            .unwrap_or_else(|e| unreachable!("the placeholder is an event: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_later_version_is_shown_as_it_came() {
        let story = "castle".parse().unwrap();
        let json = r#"{"v":2,"id":"e7","type":"action","story":"castle","author":{"kind":"user","id":"u1"},"mode":"fly","text":"Up!","at":"2026-11-24T01:02:03Z"}"#;
        let event = decode(&story, "7-0", json.as_bytes());
        assert_eq!(
            (event.kind(), &event.extra["text"]),
            ("action", &"Up!".into())
        );
    }

    #[test]
    fn what_is_not_an_event_keeps_its_place() {
        let story = "castle".parse().unwrap();
        for json in [&b""[..], b"{", b"\xff", b"{\"v\":9}"] {
            let event = decode(&story, "7-0", json);
            assert_eq!(
                (event.kind(), event.id.as_str()),
                ("unreadable", "unreadable-7-0")
            );
        }
    }
}
