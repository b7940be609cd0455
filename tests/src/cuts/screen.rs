//! What a reader of a story has on the screen, by the protocol alone: no line of the gateway's code is used. Each frame
//! must join exactly to what is there.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;
use story::LogEntry;

/// What a reader was given, counted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tally {
    pub events: u64,
    pub deltas: u64,
    pub resets: u64,
    pub snapshots: u64,
    /// Events that came while a response was on the screen, and were another's.
    pub amid: u64,
    pub gaps: u64,
    pub voids: u64,
    pub retracted: u64,
    /// Responses with a text.
    pub responses: u64,
    /// Of them, those of which some text was on the screen as it was committed.
    pub drafted: u64,
    /// Of those, the ones that were there to the last character.
    pub whole: u64,
    /// Of those, the ones put together of nothing but deltas.
    pub from_deltas: u64,
    /// Drafts that their response replaced, since their reader was away when they began anew.
    pub replaced: u64,
    /// Characters of all deltas.
    pub characters: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.deltas += other.deltas;
        self.resets += other.resets;
        self.snapshots += other.snapshots;
        self.amid += other.amid;
        self.gaps += other.gaps;
        self.voids += other.voids;
        self.retracted += other.retracted;
        self.responses += other.responses;
        self.drafted += other.drafted;
        self.whole += other.whole;
        self.from_deltas += other.from_deltas;
        self.replaced += other.replaced;
        self.characters += other.characters;
    }
}

#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// The last event; `None` while the log may begin anywhere.
    pub(crate) seq: Option<u64>,
    pub(crate) cursor: Option<String>,
    /// (seq, id, text), in the order they came.
    pub(crate) events: Vec<(u64, String, String)>,
    drafts: HashMap<String, Draft>,
    ended: HashSet<String>,
    /// The last try of each response of which something came.
    tries: HashMap<String, u64>,
    replaced: Vec<Replaced>,
    pub(crate) tally: Tally,
    pub(crate) wrong: Vec<String>,
}

/// A draft in whose place its response came with another text, after its reader was away. That is right where the response
/// was begun anew meanwhile, which others saw.
#[derive(Debug)]
struct Replaced {
    re: String,
    attempt: u64,
    what: String,
}

#[derive(Debug, Default)]
struct Draft {
    attempt: u64,
    next: u64,
    text: String,
    /// All of it came as deltas, from the first chunk on.
    pure: bool,
    /// Of its last piece.
    stay: u64,
}

impl Screen {
    /// Takes one frame of the story. `stay` is a number that changes whenever something may have been missed: with each
    /// connection, and when Redis comes and goes.
    pub(crate) fn take(&mut self, frame: &Value, stay: u64) {
        match frame["t"].as_str().unwrap_or_default() {
            "live" => return self.live(frame),
            "presence" | "typing" => {
                if frame.get("cursor").is_some() {
                    self.complain(format_args!("a cursor in {frame}"));
                }
                return;
            }
            "event" | "retracted" => self.event(frame, stay),
            "delta" => self.delta(frame, stay),
            "reset" => self.reset(frame, stay),
            "snapshot" => self.snapshot(frame, stay),
            "gap" => {
                self.tally.gaps += 1;
                self.seq = None;
                self.drafts.clear();
                self.complain("a gap, though no history was lost");
            }
            _ => self.complain(format_args!("no reader knows {frame}")),
        }
        match frame["cursor"].as_str() {
            Some(cursor) => self.cursor = Some(cursor.to_owned()),
            None => self.complain(format_args!("no cursor in {frame}")),
        }
    }

    /// Where what is on it is not what the log has, to the character.
    pub(crate) fn difference(&self, log: &[LogEntry]) -> Option<String> {
        if self.events.len() != log.len() {
            let (seen, all) = (self.events.len(), log.len());
            return Some(format!("has {seen} events of {all}"));
        }
        let pairs = self.events.iter().zip(log);
        let mut other = pairs.filter_map(|((seq, id, shown), LogEntry { seq: at, event })| {
            let (own, text) = (event.id.as_str(), event.payload().text());
            let text = text.unwrap_or_default();
            let is_same = (*seq, id.as_str(), shown.as_str()) == (at.0, own, text);
            (!is_same).then(|| format!("{id} at {seq} shows {shown:?}; {own} at {at} is {text:?}"))
        });
        other.next()
    }

    pub(crate) fn shows(&self, words: &str) -> bool {
        self.events.iter().any(|(_, _, text)| text.contains(words))
    }

    /// What is not being written any more never comes.
    fn live(&mut self, frame: &Value) {
        let running: Vec<&str> = frame["drafts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let before = self.drafts.len();
        self.drafts.retain(|re, _| running.contains(&re.as_str()));
        let gone = before - self.drafts.len();
        self.tally.voids += u64::try_from(gone).unwrap_or(u64::MAX);
    }

    fn event(&mut self, frame: &Value, stay: u64) {
        self.tally.events += 1;
        let event = &frame["event"];
        let seq = frame["seq"].as_u64().unwrap_or_default();
        let (id, text) = (word(event, "id"), word(event, "text"));
        if self.seq.is_some_and(|last| seq != last + 1) {
            let last = self.seq.unwrap_or_default();
            self.complain(format_args!("seq {seq} comes after {last}"));
        }
        self.seq = Some(seq);
        self.tally.amid += u64::from(self.drafts.keys().any(|re| re != id));
        if !self.ended.insert(id.to_owned()) {
            self.complain(format_args!("{id} comes twice, now as {seq}"));
        }
        for gone in frame["void"].as_array().into_iter().flatten() {
            self.tally.voids += 1;
            self.drafts.remove(gone.as_str().unwrap_or_default());
        }
        if frame["t"] == "retracted" {
            self.tally.retracted += 1;
            let target = word(event, "target");
            for (_, _, text) in self.events.iter_mut().filter(|(_, id, _)| id == target) {
                text.clear();
            }
        }
        if matches!(word(event, "type"), "narration" | "dialogue") {
            self.commit(id, event, stay);
        }
        self.events.push((seq, id.to_owned(), text.to_owned()));
    }

    /// A draft is the beginning of its response: what comes in its place may only add to it.
    fn commit(&mut self, id: &str, event: &Value, stay: u64) {
        let draft = self.drafts.remove(id);
        // What was taken back already has no text that a draft could grow into.
        if event.get("retracted").is_some() {
            return;
        }
        self.tally.responses += 1;
        let Some(draft) = draft.filter(|draft| !draft.text.is_empty()) else {
            return;
        };
        self.tally.drafted += 1;
        let text = word(event, "text");
        // An answer that was cut ends with a whole sentence, and its draft may not.
        let is_cut = word(event, "status") == "truncated" && draft.text.starts_with(text);
        if text == draft.text {
            self.tally.whole += 1;
            self.tally.from_deltas += u64::from(draft.pure);
        } else if !is_cut && !text.starts_with(&draft.text) {
            self.tally.replaced += 1;
            let (re, attempt) = (id.to_owned(), draft.attempt);
            let what = format!("{id} was drafted as {:?} and is {text:?}", draft.text);
            if draft.stay == stay {
                self.complain(what);
            } else {
                self.replaced.push(Replaced { re, attempt, what });
            }
        }
    }

    fn delta(&mut self, frame: &Value, stay: u64) {
        let (re, text) = (word(frame, "re").to_owned(), word(frame, "text"));
        let [attempt, i, n] = ["attempt", "i", "n"].map(|name| frame[name].as_u64());
        let (Some(attempt), Some(i), Some(n)) = (attempt, i, n) else {
            return self.complain(format_args!("{frame} is no delta"));
        };
        self.tally.deltas += 1;
        self.tally.characters += u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
        if self.ended.contains(&re) {
            self.complain(format_args!("{re} goes on after its end"));
        }
        self.tried(&re, attempt);
        let draft = self.drafts.entry(re.clone()).or_default();
        // What is on the screen is only taken off it by a reset or a snapshot.
        if draft.attempt == 0 && i == 0 {
            *draft = Draft {
                attempt,
                pure: true,
                ..Draft::default()
            };
        }
        let had = (draft.attempt, draft.next);
        draft.text.push_str(text);
        (draft.next, draft.stay) = (i + n, stay);
        if had != (attempt, i) || n == 0 {
            self.complain(format_args!(
                "{re}: chunks {i}+{n} of try {attempt} come after {had:?}"
            ));
        }
    }

    fn reset(&mut self, frame: &Value, stay: u64) {
        self.tally.resets += 1;
        let re = word(frame, "re").to_owned();
        let attempt = frame["attempt"].as_u64().unwrap_or_default();
        self.tried(&re, attempt);
        let had = self.drafts.get(&re).map_or(0, |draft| draft.attempt);
        if attempt <= had || self.ended.contains(&re) {
            self.complain(format_args!("{re}: try {attempt} begins after {had}"));
        }
        let draft = Draft {
            attempt,
            pure: true,
            stay,
            ..Draft::default()
        };
        self.drafts.insert(re, draft);
    }

    fn snapshot(&mut self, frame: &Value, stay: u64) {
        self.tally.snapshots += 1;
        let (re, text) = (word(frame, "re").to_owned(), word(frame, "text"));
        let [attempt, next] = ["attempt", "upto"].map(|name| frame[name].as_u64());
        let (attempt, next) = (attempt.unwrap_or_default(), next.unwrap_or_default());
        if self.ended.contains(&re) {
            self.complain(format_args!("{re} has a snapshot after its end"));
        }
        self.tried(&re, attempt);
        let joins = self.drafts.get(&re).is_none_or(|draft| {
            // The other node may know less of it: what is taken off the screen comes again.
            draft.attempt < attempt
                || (draft.attempt == attempt
                    && (text.starts_with(&draft.text) || draft.text.starts_with(text)))
        });
        if !joins {
            self.complain(format_args!("{re}: a snapshot that is another text"));
        }
        let draft = Draft {
            attempt,
            next,
            text: text.to_owned(),
            pure: false,
            stay,
        };
        self.drafts.insert(re, draft);
    }

    fn tried(&mut self, re: &str, attempt: u64) {
        let last = self.tries.entry(re.to_owned()).or_default();
        *last = attempt.max(*last);
    }

    pub(crate) fn complain(&mut self, what: impl Display) {
        self.wrong.push(what.to_string());
    }
}

/// Drafts that were replaced though nobody saw their response begin anew.
pub(crate) fn unexplained(screens: &[&Screen]) -> Vec<String> {
    let last = |re: &str| {
        screens
            .iter()
            .filter_map(|screen| screen.tries.get(re))
            .max()
    };
    let replaced = screens.iter().flat_map(|screen| &screen.replaced);
    let wrong = replaced.filter(|it| last(&it.re).is_none_or(|last| *last <= it.attempt));
    wrong.map(|it| it.what.clone()).collect()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn delta(attempt: u64, i: u64, text: &str) -> Value {
        json!({"t": "delta", "cursor": "c", "re": "r", "attempt": attempt, "i": i, "n": 1, "text": text})
    }

    fn reset(attempt: u64) -> Value {
        json!({"t": "reset", "cursor": "c", "re": "r", "attempt": attempt})
    }

    fn told(seq: u64, text: &str) -> Value {
        let event = json!({"id": "r", "type": "narration", "text": text, "status": "complete"});
        json!({"t": "event", "cursor": "c", "seq": seq, "event": event})
    }

    fn wrong(frames: &[Value]) -> usize {
        let mut screen = Screen::default();
        for frame in frames {
            screen.take(frame, 1);
        }
        screen.wrong.len()
    }

    #[test]
    fn what_joins_is_fine() {
        let frames = [
            delta(1, 0, "a"),
            delta(1, 1, "b"),
            reset(2),
            delta(2, 0, "c"),
            told(1, "cd"),
        ];
        assert_eq!(wrong(&frames), 0);
        let mut screen = Screen::default();
        for frame in [delta(1, 0, "a"), delta(1, 1, "b"), told(1, "ab")] {
            screen.take(&frame, 1);
        }
        assert_eq!((screen.tally.whole, screen.tally.from_deltas), (1, 1));
    }

    #[test]
    fn what_is_lost_doubled_or_other_is_told() {
        let snapshot = json!({"t": "snapshot", "cursor": "c", "re": "r", "attempt": 1, "upto": 1, "text": "x"});
        for frames in [
            vec![delta(1, 0, "a"), delta(1, 2, "c")],
            vec![delta(1, 0, "a"), delta(1, 0, "a")],
            vec![delta(1, 1, "b")],
            vec![delta(1, 0, "a"), delta(2, 0, "b")],
            vec![delta(1, 0, "a"), told(1, "b")],
            vec![told(1, "a"), delta(1, 0, "a")],
            vec![told(1, "a"), told(1, "a")],
            vec![delta(1, 0, "a"), snapshot],
            vec![json!({"t": "gap", "cursor": "c"})],
            vec![json!({"t": "gup", "cursor": "c"})],
        ] {
            assert!(wrong(&frames) > 0, "{frames:?}");
        }
    }

    #[test]
    fn who_was_away_may_find_another_text_if_it_was_begun_anew() {
        let (mut away, mut stayed) = (Screen::default(), Screen::default());
        away.take(&delta(1, 0, "a"), 1);
        away.take(&told(1, "b"), 2);
        assert_eq!((away.wrong.len(), away.tally.replaced), (0, 1));
        stayed.take(&delta(1, 0, "a"), 1);
        assert_eq!(unexplained(&[&away, &stayed]).len(), 1);
        stayed.take(&reset(2), 1);
        assert_eq!(unexplained(&[&away, &stayed]).len(), 0);
    }
}
