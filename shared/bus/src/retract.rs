//! Finds an event that is to be taken away, and makes what stays in its place.

use story::{
    Agent, Author, AuthorKind, Dialogue, Event, EventId, Narration, Payload, Seq, Step, StoryId,
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
    /// What was taken back already is nowhere, and a log can be long: before each further page it is asked whether the
    /// entry still stands. If it does not, the commit is refused, as its script would refuse it.
    pub(crate) async fn retraction(
        &self,
        delivery: &Delivery,
        story: &StoryId,
        id: &EventId,
    ) -> Result<Result<Option<Retraction>, Committed>, Error> {
        let mut end = "+".to_owned();
        loop {
            let mut cmd = redis::cmd("XREVRANGE");
            cmd.arg(self.keys.log(story)).arg(&end).arg("-");
            cmd.arg("COUNT").arg(PAGE);
            let page: Vec<Entry> = read(self.link.query(&cmd).await?)?;
            for (place, fields) in &page {
                let event = readable(fields).filter(|event| event.id == *id);
                let Some(event) = event else { continue };
                if let Some(tombstone) = tombstone(&event) {
                    return Ok(Ok(Some(Retraction {
                        seq: seq(place)?,
                        tombstone,
                        answers: answers(&event),
                    })));
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
