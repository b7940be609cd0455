//! Readers who watch a story through the whole run, go away at times and come back with their cursor. They keep what a
//! person's screen would show, and check it: each event once and in its place, each draft without a hole and growing into
//! its answer, and at the end, character for character, what the log has.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use anyhow::Context;
use bus::{Bus, Seen};
use story::{EventId, LogEntry, OutputPolicy, Payload, Policies, Status, StoryId};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::chaos::secret;

/// For the rest of the log, once the fleet is at rest.
const REST: Duration = Duration::from_secs(30);
/// A reader leaves after so many things seen.
const STAY: usize = 23;

/// What a reader saw.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) story: StoryId,
    policies: Policies,
    pub(super) events: u64,
    pub(super) returns: u64,
    /// Answers with a text.
    pub(super) answers: u64,
    /// Of them, those of which some text was there before.
    pub(super) drafted: u64,
    /// Of those, the ones whose draft was not the beginning of what was published: their text was put in its place.
    pub(super) replaced: u64,
    /// How often text was taken off the screen for a new attempt.
    pub(super) resets: u64,
    pub(super) wrong: Vec<String>,
    drafts: HashMap<EventId, Draft>,
    /// The events in their order, each with its text.
    screen: Vec<(EventId, String)>,
    places: HashMap<EventId, usize>,
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
    (story, policies): (StoryId, Policies),
    end: CancellationToken,
) -> anyhow::Result<Sight> {
    let mut watch = bus.watch(&story, None).await?;
    let mut sight = Sight::new(story, policies);
    for count in 1_usize.. {
        tokio::select! {
            seen = watch.next() => sight.take(seen?),
            () = end.cancelled() => break,
        }
        if count.is_multiple_of(STAY) {
            watch = come_back(&bus, &sight.story, watch).await?;
            sight.returns += 1;
        }
    }
    let last = bus.story(&sight.story).await?.seq.0;
    while sight.events < last {
        let seen = timeout(REST, watch.next()).await;
        let seen = seen.with_context(|| {
            format!(
                "a reader of {} sees {} of {last}",
                sight.story, sight.events
            )
        })?;
        sight.take(seen?);
    }
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
    fn new(story: StoryId, policies: Policies) -> Self {
        Self {
            story,
            policies,
            events: 0,
            returns: 0,
            answers: 0,
            drafted: 0,
            replaced: 0,
            resets: 0,
            wrong: Vec::new(),
            drafts: HashMap::new(),
            screen: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn take(&mut self, seen: Seen) {
        let live = !matches!(seen, Seen::Event(_) | Seen::Gap);
        if live && self.policies.output == OutputPolicy::Hold {
            self.complain(format_args!("{seen:?} before its verdict"));
        }
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
        self.is_secret(&event.id, &event.encode());
        let place = self.screen.len();
        if let Some(before) = self.places.insert(event.id.clone(), place) {
            self.complain(format_args!("{} at {} and at {seq}", event.id, before + 1));
        }
        let draft = self.drafts.remove(&event.id);
        let text = event.payload().text().unwrap_or_default();
        let told = match event.payload() {
            Payload::Narration(narration) => Some(narration.status),
            Payload::Dialogue(dialogue) => Some(dialogue.status),
            Payload::Retracted(retracted) => {
                let shown = self.places.get(&retracted.target);
                if let Some((_, text)) = shown.and_then(|at| self.screen.get_mut(*at)) {
                    text.clear();
                }
                None
            }
            _ => None,
        };
        // What was taken back already has no text that a draft could grow into.
        if let Some(status) = told.filter(|_| !event.extra.contains_key("retracted")) {
            self.answers += 1;
            let draft = draft.map(|draft| draft.text).unwrap_or_default();
            self.drafted += u64::from(!draft.is_empty());
            // An answer that was cut ends with a whole sentence, and its draft may not.
            let cut = status == Status::Truncated && draft.starts_with(text);
            self.replaced += u64::from(!cut && !text.starts_with(&draft));
        }
        self.screen.push((event.id.clone(), text.to_owned()));
    }

    fn delta(&mut self, re: &EventId, (attempt, i, n): (u32, u32, u32), text: &str) {
        if self.places.contains_key(re) {
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
        let text = draft.text.clone();
        self.is_secret(re, &text);
        if !joins {
            self.complain(format_args!(
                "a hole in {re} before chunk {i} of try {attempt}"
            ));
        }
    }

    fn draft(&mut self, re: EventId, attempt: u32, next: u32, text: String) {
        if self.places.contains_key(&re) {
            self.complain(format_args!("{re} begins anew after its end"));
        }
        self.is_secret(&re, &text);
        let draft = Draft {
            attempt,
            next,
            text,
        };
        let before = self.drafts.insert(re, draft);
        self.resets += u64::from(before.is_some_and(|before| !before.text.is_empty()));
    }

    /// What is on the screen is what the log has: no event more or less, no other character.
    pub(super) fn compare(&mut self, log: &[LogEntry]) {
        if self.screen.len() != log.len() {
            let (seen, all) = (self.screen.len(), log.len());
            self.complain(format_args!("{seen} events of {all}"));
        }
        let screen = std::mem::take(&mut self.screen);
        for ((id, shown), LogEntry { seq, event }) in screen.iter().zip(log) {
            let text = event.payload().text().unwrap_or_default();
            if *id != event.id || shown != text {
                self.complain(format_args!(
                    "{id} shows {shown:?} where the log has {} with {text:?} at {seq}",
                    event.id
                ));
            }
        }
    }

    fn is_secret(&mut self, id: &EventId, shown: &str) {
        if let Some(words) = secret::leaked(self.policies, shown) {
            self.complain(format_args!("{id} shows {words:?}, which is held back"));
        }
    }

    fn complain(&mut self, what: impl Display) {
        self.wrong
            .push(format!("a reader of {}: {what}", self.story));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use story::{Author, AuthorKind, Event, InputPolicy, Narration, Retracted, Seq};

    fn sight() -> Sight {
        sight_of(OutputPolicy::Off)
    }

    fn sight_of(output: OutputPolicy) -> Sight {
        let input = InputPolicy::Hold;
        Sight::new(
            "castle".parse().unwrap(),
            Policies {
                input,
                output,
                ..Policies::default()
            },
        )
    }

    fn delta(attempt: u32, i: u32) -> Seen {
        Seen::Delta {
            re: "r1".parse().unwrap(),
            attempt,
            i,
            n: 2,
            text: "so ".to_owned(),
        }
    }

    fn event(seq: u64, id: &str, payload: Payload) -> LogEntry {
        let author = Author {
            kind: AuthorKind::Agent,
            id: "narrator".to_owned(),
            name: String::new(),
        };
        let (id, story) = (id.parse().unwrap(), "castle".parse().unwrap());
        let at = jiff::Timestamp::UNIX_EPOCH;
        LogEntry {
            seq: Seq(seq),
            event: Event::new(id, story, author, payload, at),
        }
    }

    fn told(seq: u64, id: &str, text: &str) -> LogEntry {
        let narration = Narration {
            text: text.to_owned(),
            choices: Vec::new(),
            speak: Vec::new(),
            status: Status::Complete,
            llm: None,
        };
        event(seq, id, Payload::Narration(narration))
    }

    #[test]
    fn chunks_that_join_are_fine_and_holes_and_repeats_are_not() {
        let mut sight = sight();
        for seen in [delta(1, 0), delta(1, 2), delta(2, 0), delta(2, 2)] {
            sight.take(seen);
        }
        assert_eq!(sight.wrong, [""; 0]);
        sight.take(delta(2, 6));
        sight.take(delta(2, 6));
        sight.take(Seen::Gap);
        assert_eq!(sight.wrong.len(), 3, "{:?}", sight.wrong);
    }

    #[test]
    fn what_is_held_back_is_not_to_be_seen() {
        for (output, seen, wrong) in [
            (
                OutputPolicy::Off,
                Seen::Event(told(1, "r1", secret::MODELS)),
                0,
            ),
            (
                OutputPolicy::Hold,
                Seen::Event(told(1, "r1", secret::MODELS)),
                1,
            ),
            (
                OutputPolicy::Off,
                Seen::Event(told(1, "r1", secret::PEOPLES)),
                1,
            ),
            (OutputPolicy::Off, delta(1, 0), 0),
            (OutputPolicy::Hold, delta(1, 0), 1),
        ] {
            let mut sight = sight_of(output);
            sight.take(seen);
            assert_eq!(sight.wrong.len(), wrong, "{:?}", sight.wrong);
        }
        let mut sight = sight();
        let (first, second) = secret::PEOPLES.split_at(7);
        for (i, text) in [(0, first), (2, second)] {
            sight.take(Seen::Delta {
                re: "r1".parse().unwrap(),
                attempt: 1,
                i,
                n: 2,
                text: text.to_owned(),
            });
        }
        assert_eq!(sight.wrong.len(), 1, "{:?}", sight.wrong);
    }

    #[test]
    fn a_draft_grows_into_its_answer_or_was_replaced() {
        for (text, replaced) in [("so so it ends.", 0), ("so it ends.", 1)] {
            let mut sight = sight();
            for seen in [delta(1, 0), delta(1, 2), Seen::Event(told(1, "r1", text))] {
                sight.take(seen);
            }
            assert_eq!((sight.answers, sight.drafted), (1, 1));
            assert_eq!(sight.replaced, replaced, "{text}");
        }
    }

    #[test]
    fn another_character_than_the_logs_is_found() {
        let retracted = Payload::Retracted(Retracted {
            target: "r2".parse().unwrap(),
            reason: String::new(),
        });
        let (kept, gone) = (told(1, "r1", "It opens."), told(2, "r2", "A secret."));
        let back = event(3, "t1", retracted);
        let seen = [kept.clone(), gone.clone(), back.clone()];
        let log = [kept, told(2, "r2", ""), back.clone()];
        for (log, wrong) in [
            (log.to_vec(), 0),
            (vec![told(1, "r1", "It opens"), log[1].clone(), back], 1),
            (log[..2].to_vec(), 1),
            (vec![log[0].clone(), gone, log[2].clone()], 1),
        ] {
            let mut sight = sight();
            seen.iter()
                .cloned()
                .map(Seen::Event)
                .for_each(|seen| sight.take(seen));
            sight.compare(&log);
            assert_eq!(sight.wrong.len(), wrong, "{:?}", sight.wrong);
        }
    }
}
