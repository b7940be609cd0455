//! Finds an event that is to be taken away, and makes what stays in its place.

use serde_json::Value as Json;
use story::{Event, EventId, Seq, StoryId};

use crate::reply::{Entry, read};
use crate::{Bus, Error};

/// How many events one look at the log takes. The event meant is nearly always among the last few.
const PAGE: usize = 100;

/// An event of the log without its words.
pub(crate) struct Retraction {
    pub(crate) seq: Seq,
    pub(crate) tombstone: String,
}

impl Bus {
    /// Looks for `id` from the log's end. `None` when the log has it no more. An event's place never changes, so it
    /// can be found before the script that takes it away runs.
    pub(crate) async fn retraction(
        &self,
        story: &StoryId,
        id: &EventId,
    ) -> Result<Option<Retraction>, Error> {
        let mut end = "+".to_owned();
        loop {
            let mut cmd = redis::cmd("XREVRANGE");
            cmd.arg(self.keys.log(story)).arg(&end).arg("-");
            cmd.arg("COUNT").arg(PAGE);
            let page: Vec<Entry> = read(self.link.query(&cmd).await?)?;
            for (place, fields) in &page {
                if let Some(event) = event_of(fields).filter(|event| event.id == *id) {
                    return Ok(Some(Retraction {
                        seq: seq_of(place)?,
                        tombstone: tombstone(&event),
                    }));
                }
            }
            match page.last() {
                Some((oldest, _)) => end = format!("({oldest}"),
                None => return Ok(None),
            }
        }
    }
}

/// The event of a log entry, if this version can read it.
pub(crate) fn event_of(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<Event> {
    let (_, json) = fields.iter().find(|(name, _)| name == b"e")?;
    Event::decode(json).ok()
}

pub(crate) fn seq_of(place: &str) -> Result<Seq, Error> {
    place
        .strip_suffix("-0")
        .and_then(|seq| seq.parse().ok())
        .map(Seq)
        .ok_or_else(|| Error::data(format!("a log entry has the id {place}")))
}

/// The same event with every word of its author taken out.
fn tombstone(event: &Event) -> String {
    let mut json: Json = serde_json::from_str(&event.encode()).unwrap_or_default();
    if let Json::Object(fields) = &mut json {
        for (name, empty) in [
            ("text", Json::from("")),
            ("choices", Json::Array(Vec::new())),
            ("speak", Json::Array(Vec::new())),
        ] {
            if let Some(words) = fields.get_mut(name) {
                *words = empty;
            }
        }
        fields.insert("retracted".into(), Json::Bool(true));
    }
    json.to_string()
}
