//! Finds an event that is to be taken away, or may have been, and makes what stays in its place.

use story::{
    Agent, Author, AuthorKind, Dialogue, Event, EventId, LogEntry, Narration, Payload, Seq, Step,
    StoryId,
};

use crate::keys::GROUP;
use crate::log::{readable, seq};
use crate::reply::{Entry, read};
use crate::{Bus, Committed, Delivery, Error};

/// How many events one look at the log takes. The event meant is nearly always among the last few.
const PAGE: usize = 100;

/// An event of the log without its words.
pub(crate) struct Retraction {
    pub(crate) seq: Seq,
    pub(crate) tombstone: String,
    /// The answers that it asks for, and of whom.
    pub(crate) answers: Vec<(Agent, EventId)>,
}

impl Bus {
    /// Looks for the response `id` from the log's end. `None` when the log has it no more. An event's place never
    /// changes, so it can be found before the script that takes it away runs. A person's event is never meant: whoever
    /// computes a response's id could else put one of their own in its way.
    ///
    /// If the entry stands no more, the commit is refused, as its script would refuse it.
    pub(crate) async fn retraction(
        &self,
        delivery: &Delivery,
        story: &StoryId,
        id: &EventId,
    ) -> Result<Result<Option<Retraction>, Committed>, Error> {
        let meant = |event: &Event| event.id == *id && tombstone(event).is_some();
        let found = self.look_back(delivery, story, "+".to_owned(), meant);
        let (seq, event) = match found.await? {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(tombstone(&event).map(|tombstone| Retraction {
            seq,
            tombstone,
            answers: answers(&event),
        })))
    }

    /// Where the log has the agent's event that the delivery is of. `None` when it was taken back, or the log has it no
    /// more; or when the entry stands no more, so that its end is refused. `history`: the log's end, as far as it is known:
    /// only behind that the log is searched.
    ///
    /// # Errors
    /// [`Error::Data`] for a malformed entry; or Redis was not reached.
    pub async fn still_at(
        &self,
        delivery: &Delivery,
        history: &[LogEntry],
    ) -> Result<Option<Seq>, Error> {
        let work = delivery.work.as_ref();
        let work = work.map_err(|e| Error::data(e.to_string()))?;
        let id = &work.event.id;
        // What took it away comes after it.
        let tells = |event: &Event| is_said(event, id) || takes_back(event, id);
        let mut known = history.iter().rev();
        let known = known.find(|entry| tells(&entry.event));
        let found = if let Some(entry) = known {
            Some((entry.seq, entry.event.clone()))
        } else {
            let oldest = history.first();
            let end = oldest.map_or_else(|| "+".to_owned(), |entry| format!("({}-0", entry.seq));
            let found = self.look_back(delivery, &work.story, end, tells);
            found.await?.ok().flatten()
        };
        let stands = found.filter(|(_, event)| is_said(event, id));
        Ok(stands.map(|(seq, _)| seq))
    }

    /// The last event up to `end` that is meant, and its place.
    ///
    /// What was taken back already is nowhere, and a log can be long: before each further page it is asked whether the
    /// entry still stands.
    async fn look_back(
        &self,
        delivery: &Delivery,
        story: &StoryId,
        mut end: String,
        meant: impl Fn(&Event) -> bool,
    ) -> Result<Result<Option<(Seq, Event)>, Committed>, Error> {
        loop {
            let mut cmd = redis::cmd("XREVRANGE");
            cmd.arg(self.keys.log(story)).arg(&end).arg("-");
            cmd.arg("COUNT").arg(PAGE);
            let page: Vec<Entry> = read(self.link.query(&cmd).await?)?;
            for (place, fields) in &page {
                if let Some(event) = readable(fields).filter(&meant) {
                    return Ok(Ok(Some((seq(place)?, event))));
                }
            }
            match page.last() {
                Some((oldest, _)) if page.len() == PAGE => end = format!("({oldest}"),
                _ => return Ok(Ok(None)),
            }
            if let Some(refused) = self.refusal(delivery).await? {
                return Ok(Err(refused));
            }
        }
    }

    /// What lane.lua's `refusal` would say.
    async fn refusal(&self, delivery: &Delivery) -> Result<Option<Committed>, Error> {
        let (lease, consumer) = (&delivery.lease, &delivery.consumer);
        let mut cmd = redis::cmd("XPENDING");
        cmd.arg(self.keys.work(delivery.agent, lease.shard))
            .arg(GROUP);
        cmd.arg(&lease.entry).arg(&lease.entry).arg(1);
        let rows: Vec<(String, String, u64, u64)> = match self.link.query(&cmd).await {
            Err(error) if error.code() == Some("NOGROUP") => Vec::new(),
            rows => read(rows?)?,
        };
        Ok(match rows.first() {
            None => Some(Committed::Gone),
            Some((_, owner, ..)) if owner != consumer => Some(Committed::Fenced),
            Some(_) => None,
        })
    }
}

/// Whether it is what an agent said under this id, with its words: a log that was put together may have the place only.
fn is_said(event: &Event, id: &EventId) -> bool {
    let is_tombstone = event.extra.contains_key("retracted");
    event.id == *id && event.author.kind == AuthorKind::Agent && !is_tombstone
}

fn takes_back(event: &Event, id: &EventId) -> bool {
    matches!(event.payload(), Payload::Retracted(it) if it.target == *id)
}

fn answers(event: &Event) -> Vec<(Agent, EventId)> {
    let steps = story::passed(event).into_iter();
    let answer = |step: Step| (step.agent, event.response(step.agent, step.part));
    steps.map(answer).collect()
}

/// What stays of a response: which event stood there, whose it was and what it answers; none of its words. `None` when
/// the event is no agent's response.
fn tombstone(event: &Event) -> Option<String> {
    let payload = match event.payload() {
        _ if event.author.kind != AuthorKind::Agent => return None,
        Payload::Narration(narration) => Payload::Narration(Narration {
            text: String::new(),
            choices: Vec::new(),
            speak: Vec::new(),
            status: narration.status,
            llm: None,
        }),
        Payload::Dialogue(dialogue) => Payload::Dialogue(Dialogue {
            character: String::new(),
            text: String::new(),
            status: dialogue.status,
            llm: None,
        }),
        _ => return None,
    };
    let author = Author {
        name: String::new(),
        ..event.author.clone()
    };
    let (id, story) = (event.id.clone(), event.story.clone());
    let mut tombstone = Event::new(id, story, author, payload, event.at);
    tombstone.cause.clone_from(&event.cause);
    tombstone.hop = event.hop;
    tombstone.trace.clone_from(&event.trace);
    tombstone.audience.clone_from(&event.audience);
    tombstone.extra.insert("retracted".into(), true.into());
    Some(tombstone.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_response_is_left_in_its_tombstone() {
        let dialogue = br#"{"v":1,"id":"r1","type":"dialogue","story":"castle","author":{"kind":"agent","id":"dialogue","name":"a secret"},
            "character":"a secret","text":"a secret","status":"complete","cause":["a"],"at":"1970-01-01T00:00:00Z","more":["a secret"]}"#;
        let left = tombstone(&Event::decode(dialogue).unwrap()).unwrap();
        assert!(!left.contains("secret"), "{left}");
        let left = Event::decode(left.as_bytes()).unwrap();
        assert_eq!((left.id.as_str(), left.kind()), ("r1", "dialogue"));
        assert_eq!(left.cause[0].as_str(), "a");
        assert_eq!(left.extra["retracted"], true);
    }
}
