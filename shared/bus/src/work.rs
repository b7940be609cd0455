//! What a worker is handed: an entry of a work stream, held under a lease.

use std::fmt;

use story::{Agent, Event, EventId, MAX_EVENT_BYTES, StoryId};

use crate::keys::Keys;
use crate::reply::Fields;

/// One entry, delivered to one consumer, until [`crate::Bus::commit`] or [`crate::Bus::bury`] ends it.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub agent: Agent,
    pub consumer: String,
    pub lease: LeaseId,
    /// How often it was delivered, this time included.
    pub deliveries: u32,
    /// The consumer whose lease ran out; none had it when it comes from the reader.
    pub taken_from: Option<String>,
    pub work: Result<Work, Malformed>,
}

/// Names an entry of a work stream of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId {
    pub shard: u16,
    pub entry: String,
}

/// One step of one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub story: StoryId,
    pub id: EventId,
    /// Tells the steps that one event causes apart.
    pub part: u32,
    /// Not in the log yet: it waits for the moderator.
    pub held: bool,
    pub event: Event,
}

/// An entry that cannot be read; it can only be buried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The lane it blocks, when it names one.
    pub story: Option<StoryId>,
    /// The event's id, when it names one.
    pub id: Option<EventId>,
    /// What its event calls itself in this story, where that is another id: readers know it under this one.
    pub named: Option<EventId>,
    /// `oversize` or `undecodable`.
    pub class: &'static str,
    pub reason: String,
}

impl Work {
    /// The id of the agent's response to this step.
    #[must_use]
    pub fn response(&self, agent: Agent) -> EventId {
        self.event.response(agent, self.part)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shard, self.entry)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Reads the fields of an entry in `shard`.
pub(crate) fn work(fields: &Fields, keys: &Keys, shard: u16) -> Result<Work, Malformed> {
    // An entry cannot name a lane of another shard: its keys would not be where its script runs.
    let story = text(fields, "story")
        .and_then(|text| text.parse().ok())
        .filter(|story| keys.shard(story) == shard);
    let id: Option<EventId> = text(fields, "id").and_then(|text| text.parse().ok());
    parse(fields, story.as_ref(), id.as_ref()).map_err(|(reason, named)| Malformed {
        class: match field(fields, "e") {
            Some(json) if json.len() > MAX_EVENT_BYTES => "oversize",
            _ => "undecodable",
        },
        story,
        id,
        named,
        reason,
    })
}

fn parse(
    fields: &Fields,
    story: Option<&StoryId>,
    id: Option<&EventId>,
) -> Result<Work, (String, Option<EventId>)> {
    let unnamed = |reason: &str| (reason.to_owned(), None);
    let (Some(story), Some(id)) = (story, id) else {
        return Err(unnamed(
            "the entry names no story of this shard or no event",
        ));
    };
    let part = text(fields, "part").and_then(|text| text.parse().ok());
    let part = part.ok_or_else(|| unnamed("the entry has no part"))?;
    let json = field(fields, "e").ok_or_else(|| unnamed("the entry has no event"))?;
    let event = Event::decode(json).map_err(|error| unnamed(&error.to_string()))?;
    if (&event.story, &event.id) != (story, id) {
        let reason = format!(
            "it was published as {:?} of {story}, and its event calls itself {:?} of {}: a producer's arguments must be what its event says",
            id.as_str(),
            event.id.as_str(),
            event.story
        );
        let named = (event.story == *story && event.id != *id).then_some(event.id);
        return Err((reason, named));
    }
    Ok(Work {
        story: story.clone(),
        id: id.clone(),
        part,
        held: flag(fields, "held"),
        event,
    })
}

fn flag(fields: &Fields, name: &str) -> bool {
    field(fields, name) == Some(b"1")
}

fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    std::str::from_utf8(field(fields, name)?).ok()
}

pub(crate) fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields
        .iter()
        .find(|(key, _)| key == name.as_bytes())
        .map(|(_, value)| value.as_slice())
}

/// Reads a parked element: `<bytes>:<text>` for each name and value in turn.
pub(crate) fn unpack(mut packed: &[u8]) -> Option<Fields> {
    let mut texts = Vec::new();
    while !packed.is_empty() {
        let colon = packed.iter().position(|b| *b == b':')?;
        let bytes: usize = std::str::from_utf8(&packed[..colon]).ok()?.parse().ok()?;
        let rest = &packed[colon + 1..];
        texts.push(rest.get(..bytes)?.to_vec());
        packed = &rest[bytes..];
    }
    let pairs = texts.chunks_exact(2);
    pairs.remainder().is_empty().then(|| {
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_element_reads_back_whatever_its_bytes() {
        let fields = unpack(b"5:story6:castle1:e4:a:1\n").unwrap();
        assert_eq!(text(&fields, "story"), Some("castle"));
        assert_eq!(field(&fields, "e"), Some(&b"a:1\n"[..]));
        for bad in [
            &b"5:stor"[..],
            b"x:a",
            b"1:a",
            b":",
            b"99999999999999999999:a",
        ] {
            assert_eq!(unpack(bad), None);
        }
    }
}
