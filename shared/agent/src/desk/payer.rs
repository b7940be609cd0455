//! For whom the calls of a turn are made: whose budgets they count against.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use story::{AuthorKind, Event, EventId, LogEntry, StoryId};
use tokio::sync::oneshot;

/// How far back it is looked for whom an event was made.
const STEPS: usize = 8;

/// For whom a turn's calls are made.
pub(super) struct Payer {
    pub(super) story: StoryId,
    pub(super) people: Vec<String>,
    /// The same in every delivery.
    pub(super) turn: String,
    pub(super) attempt: Attempt,
}

/// One delivery, and how many calls it has asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(super) name: Arc<str>,
    calls: Arc<AtomicU32>,
    /// Of the last call that ended: over once that is told.
    ended: Arc<Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Attempt {
    /// At an entry that was delivered so often. A worker that comes back after it lost the turn is so known to be an earlier one.
    pub(crate) fn new(entry: &str, deliveries: u32) -> Self {
        Self {
            name: format!("{entry}-{deliveries}-{:016x}", rand::random::<u64>()).into(),
            calls: Arc::default(),
            ended: Arc::default(),
        }
    }

    /// The number of its next call.
    pub(super) fn call(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// One of its calls has ended. What this gives is to be dropped when Redis knows, or never will.
    pub(super) fn ends(&self) -> oneshot::Sender<()> {
        let (untold, told) = oneshot::channel();
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        untold
    }

    /// Waits until Redis knows of its calls that ended, or never will. They are told in order, so the last one tells for all.
    pub(super) async fn told(&self) {
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(told) = ended {
            // Nothing is ever sent.
            let _ = told.await;
        }
    }
}

impl Payer {
    /// For an `attempt` at `event`, which is answered under `response` with those that `joined` its beat.
    pub(super) fn new(
        event: &Event,
        joined: &[Event],
        history: &[LogEntry],
        (response, attempt): (&EventId, Attempt),
    ) -> Self {
        Self {
            story: event.story.clone(),
            people: people(event, joined, history),
            turn: format!("{}:{response}", event.story),
            attempt,
        }
    }
}

/// Who did what is answered, each once.
fn people(event: &Event, joined: &[Event], history: &[LogEntry]) -> Vec<String> {
    let all = std::iter::once(event).chain(joined);
    let people: BTreeSet<&str> = all.filter_map(|event| person(event, history)).collect();
    people.into_iter().map(str::to_owned).collect()
}

/// Who did what the event answers, as far as the log that the turn was given tells.
fn person<'a>(event: &'a Event, history: &'a [LogEntry]) -> Option<&'a str> {
    let mut event = event;
    for _ in 0..STEPS {
        if event.author.kind == AuthorKind::User {
            return Some(&event.author.id);
        }
        let cause = event.cause.first()?;
        let found = history.iter().find(|entry| entry.event.id == *cause)?;
        event = &found.event;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, author: &str, cause: &str) -> Event {
        let kind = if author == "narrator" {
            "agent"
        } else {
            "user"
        };
        let cause: Vec<&str> = Some(cause)
            .filter(|cause| !cause.is_empty())
            .into_iter()
            .collect();
        let json = serde_json::json!({
            "v": 1, "id": id, "type": "action", "story": "castle", "mode": "do", "text": "I wait.",
            "author": {"kind": kind, "id": author, "name": ""}, "cause": cause, "hop": 0, "at": "2026-11-24T01:02:03Z",
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn whoever_joins_a_beat_pays_for_it_and_each_once() {
        let lead = event("a1", "mira", "");
        let joined = [event("a2", "oto", ""), event("a3", "mira", "")];
        assert_eq!(people(&lead, &joined, &[]), ["mira", "oto"]);
        assert_eq!(people(&lead, &[], &[]), ["mira"]);
    }

    #[test]
    fn a_step_is_for_whose_action_it_follows_while_the_history_tells() {
        let history = [LogEntry {
            seq: story::Seq(1),
            event: event("a1", "mira", ""),
        }];
        let step = event("n1", "narrator", "a1");
        assert_eq!(people(&step, &[], &history), ["mira"]);
        assert!(people(&step, &[], &[]).is_empty());
    }
}
