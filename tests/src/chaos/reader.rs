//! Readers who watch a story through the whole run, go away at times and come back with their cursor. They check what
//! they are given: each event once and in its place, each draft without a hole.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Seen};
use story::{EventId, LogEntry, StoryId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// For the rest of the log, once the fleet is at rest.
const REST: Duration = Duration::from_secs(30);
/// A reader leaves after so many things seen.
const STAY: usize = 23;

/// What a reader saw.
#[derive(Debug, Default)]
pub(super) struct Sight {
    pub(super) events: u64,
    pub(super) returns: u64,
    /// Responses whose draft was not the beginning of what was published: their text was put in its place.
    pub(super) replaced: u64,
    pub(super) wrong: Vec<String>,
    drafts: HashMap<EventId, Draft>,
    seen: HashMap<EventId, u64>,
}

#[derive(Debug, Default)]
struct Draft {
    attempt: u32,
    /// The next chunk.
    next: u32,
    text: String,
}

/// Watches until `end`, and then to the end of the log.
pub(super) async fn read(
    bus: Bus,
    story: StoryId,
    end: CancellationToken,
) -> anyhow::Result<Sight> {
    let mut sight = Sight::default();
    let mut watch = bus.watch(&story, None).await?;
    for count in 1_usize.. {
        tokio::select! {
            seen = watch.next() => sight.take(seen?),
            () = end.cancelled() => break,
        }
        if count.is_multiple_of(STAY) {
            watch = come_back(&bus, &story, watch).await?;
            sight.returns += 1;
        }
    }
    let last = bus.story(&story).await?.seq.0;
    while sight.events < last {
        let seen = timeout(REST, watch.next()).await;
        let seen =
            seen.with_context(|| format!("a reader of {story} sees {} of {last}", sight.events))?;
        sight.take(seen?);
    }
    let story = |wrong: &mut String| *wrong = format!("a reader of {story}: {wrong}");
    sight.wrong.iter_mut().for_each(story);
    Ok(sight)
}

/// A new watch from where the old one was; the cursor is what a browser would keep of it.
async fn come_back(bus: &Bus, story: &StoryId, old: bus::Watch) -> anyhow::Result<bus::Watch> {
    let cursor = old.cursor().to_string();
    drop(old);
    loop {
        match bus.watch(story, Some(cursor.parse()?)).await {
            Err(bus::Error::Unreachable(_)) => {}
            watch => return Ok(watch?),
        }
    }
}

impl Sight {
    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Event(entry) => self.event(&entry),
            Seen::Delta {
                re,
                attempt,
                i,
                n,
                text,
            } => self.delta(&re, (attempt, i, n), &text),
            Seen::Reset { re, attempt } => self.draft(re, attempt, 0, String::new()),
            Seen::Snapshot {
                re,
                attempt,
                upto,
                text,
            } => self.draft(re, attempt, upto, text),
            Seen::Gap => self.complain("a gap, though no history was lost"),
        }
    }

    fn event(&mut self, LogEntry { seq, event }: &LogEntry) {
        self.events += 1;
        let events = self.events;
        if seq.0 != events {
            self.complain(format_args!("{seq} comes as event {events}"));
        }
        if let Some(before) = self.seen.insert(event.id.clone(), seq.0) {
            self.complain(format_args!("{} at {before} and at {seq}", event.id));
        }
        let draft = self.drafts.remove(&event.id).unwrap_or_default();
        let text = event.payload().text().unwrap_or_default();
        self.replaced += u64::from(!text.starts_with(&draft.text));
    }

    fn delta(&mut self, re: &EventId, (attempt, i, n): (u32, u32, u32), text: &str) {
        if self.seen.contains_key(re) {
            self.complain(format_args!("{re} goes on after its end"));
        }
        let draft = self.drafts.entry(re.clone()).or_default();
        let begins = draft.attempt < attempt && i == 0;
        if begins {
            *draft = Draft::default();
        }
        let joins = begins || (draft.attempt, draft.next) == (attempt, i);
        draft.attempt = attempt;
        draft.next = i + n;
        draft.text.push_str(text);
        if !joins {
            self.complain(format_args!(
                "a hole in {re} before chunk {i} of try {attempt}"
            ));
        }
    }

    fn draft(&mut self, re: EventId, attempt: u32, next: u32, text: String) {
        if self.seen.contains_key(&re) {
            self.complain(format_args!("{re} begins anew after its end"));
        }
        let draft = Draft {
            attempt,
            next,
            text,
        };
        self.drafts.insert(re, draft);
    }

    fn complain(&mut self, what: impl Display) {
        self.wrong.push(what.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(attempt: u32, i: u32) -> Seen {
        Seen::Delta {
            re: "r1".parse().unwrap(),
            attempt,
            i,
            n: 2,
            text: "so ".to_owned(),
        }
    }

    #[test]
    fn chunks_that_join_are_fine_and_holes_and_repeats_are_not() {
        let mut sight = Sight::default();
        for seen in [delta(1, 0), delta(1, 2), delta(2, 0), delta(2, 2)] {
            sight.take(seen);
        }
        assert_eq!(sight.wrong, [""; 0]);
        sight.take(delta(2, 6));
        sight.take(delta(2, 6));
        sight.take(Seen::Gap);
        assert_eq!(sight.wrong.len(), 3, "{:?}", sight.wrong);
    }
}
