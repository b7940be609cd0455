//! How long events waited to be taken, by the log alone.
//!
//! An answer's time is Redis's as its turn began, and it tells how long its call took. An event can be taken from its
//! publication on, or from the end of its cause where an agent made it, but not before the turn before it in its lane has
//! ended. What is between that instant and the beginning of the turn that answered it is its wait: 0 while somebody has a
//! slot, and where its first worker gave it back, all that came of that. An end is counted from its turn's beginning and its
//! call alone, so that a wait is never told shorter than it was.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use story::{Event, EventId, LlmReport, LogEntry, Payload};

/// Of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) answer: EventId,
    /// When the turn began.
    pub(crate) taken: Timestamp,
    pub(crate) wait: Duration,
    /// All of it: from its begin to its last token.
    pub(crate) call: Duration,
}

/// The waits of a story's answers, in the order of its log.
pub(crate) fn waits(log: &[LogEntry]) -> Vec<Wait> {
    let mut ready: HashMap<&EventId, Timestamp> = HashMap::new();
    let mut free: HashMap<&str, Timestamp> = HashMap::new();
    let mut waits = Vec::new();
    for LogEntry { event, .. } in log {
        let Some(report) = report(event) else {
            ready.insert(&event.id, event.at);
            continue;
        };
        let call = Duration::from_millis(report.ms);
        let end = event.at + call;
        ready.insert(&event.id, end);
        let lane = event.author.id.as_str();
        let asked = event.cause.iter().filter_map(|id| ready.get(id)).min();
        let due = asked.copied().max(free.insert(lane, end));
        let since = due.map(|due| event.at.duration_since(due));
        waits.push(Wait {
            answer: event.id.clone(),
            taken: event.at,
            // Clocks are told in ms: a turn may seem to begin before the end of the last.
            wait: since
                .and_then(|since| Duration::try_from(since).ok())
                .unwrap_or_default(),
            call,
        });
    }
    waits
}

fn report(event: &Event) -> Option<&LlmReport> {
    match event.payload() {
        Payload::Narration(narration) => narration.llm.as_ref(),
        Payload::Dialogue(dialogue) => dialogue.llm.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use story::Seq;

    /// `at` in ms.
    fn entry(seq: u64, id: &str, at: i64, agent: Option<(&str, u64)>, cause: &[&str]) -> LogEntry {
        let at = Timestamp::from_millisecond(1_000_000_000_000 + at).unwrap();
        let mut event = json!({
            "v": 1, "id": id, "story": "s", "at": at, "cause": cause, "hop": 0, "type": "action", "mode": "do",
            "text": "x", "author": {"kind": "user", "id": "u", "name": "U"},
        });
        if let Some((agent, ms)) = agent {
            event["type"] = "dialogue".into();
            event["character"] = "Sibyl".into();
            event["status"] = "complete".into();
            event["author"] = json!({"kind": "agent", "id": agent, "name": agent});
            event["llm"] = json!({"model": "m", "prompt": "p@1#0", "ms": ms});
        }
        LogEntry {
            seq: Seq(seq),
            event: serde_json::from_value(event).unwrap(),
        }
    }

    #[test]
    fn an_event_waits_from_when_it_can_be_taken() {
        let log = [
            entry(1, "a", 0, None, &[]),
            entry(2, "b", 100, None, &[]),
            // Taken 30 ms after its publication.
            entry(3, "ra", 30, Some(("narrator", 1_000)), &["a"]),
            // Its lane was free at 1030.
            entry(4, "rb", 1_080, Some(("narrator", 500)), &["b"]),
            // Another lane, which its cause's end opened at 1030.
            entry(5, "da", 1_130, Some(("dialogue", 200)), &["ra"]),
            // One that was given back after a second.
            entry(6, "c", 1_600, None, &[]),
            entry(7, "rc", 2_700, Some(("narrator", 900)), &["c"]),
        ];
        let waits: Vec<u128> = waits(&log).iter().map(|it| it.wait.as_millis()).collect();
        assert_eq!(waits, [30, 50, 100, 1_100]);
    }
}
