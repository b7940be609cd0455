//! A reader of a story in a system test, who waits for what must come.

use anyhow::{Context, bail};
use bus::{Seen, Watch};
use story::{Cursor, Event, EventId, Outcome, outcome};
use tokio::time::timeout;

use crate::wait::DEADLINE;

/// Someone who reads a story from its beginning.
pub struct Watcher {
    watch: Watch,
    /// All that was seen.
    pub seen: Vec<Seen>,
}

impl Watcher {
    #[must_use]
    pub fn new(watch: Watch) -> Self {
        let seen = Vec::new();
        Self { watch, seen }
    }

    /// Where it is.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.watch.cursor()
    }

    /// Reads on until an event of this kind comes.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn until_kind(&mut self, kind: &str) -> anyhow::Result<Event> {
        let wanted = |seen: &Seen| matches!(seen, Seen::Event(entry) if entry.event.kind() == kind);
        event(self.until(kind, wanted).await?)
    }

    /// Reads on until something is as wanted.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let search = async {
            loop {
                let seen = self.watch.next().await?;
                self.seen.push(seen.clone());
                if wanted(&seen) {
                    return anyhow::Ok(seen);
                }
            }
        };
        match timeout(DEADLINE, search).await {
            Ok(found) => found,
            Err(_) => bail!("{what} did not come; seen: {:#?}", self.seen),
        }
    }

    /// How the action ends.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn outcome_of(&mut self, action: &EventId) -> anyhow::Result<Outcome> {
        let end = self.end_of(action).await?;
        let (outcome, _) = outcome(&end).context("an end has an outcome")?;
        Ok(outcome)
    }

    /// The event that ends the action.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn end_of(&mut self, action: &EventId) -> anyhow::Result<Event> {
        let known = self.events().find(|event| ends(event, action)).cloned();
        if let Some(event) = known {
            return Ok(event);
        }
        let wanted = |seen: &Seen| matches!(seen, Seen::Event(entry) if ends(&entry.event, action));
        event(self.until(&format!("the end of {action}"), wanted).await?)
    }

    /// How many events seen so far end the action.
    #[must_use]
    pub fn ends_of(&self, action: &EventId) -> usize {
        self.events().filter(|event| ends(event, action)).count()
    }

    /// The events seen so far, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.seen.iter().filter_map(|seen| match seen {
            Seen::Event(entry) => Some(&entry.event),
            _ => None,
        })
    }

    /// The text of the drafts seen so far, without their ends: where one piece ends and the next begins is for time to say.
    #[must_use]
    pub fn drafted(&self) -> String {
        let texts = self.seen.iter().filter_map(|seen| match seen {
            Seen::Delta { text, .. } | Seen::Snapshot { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }
}

fn event(seen: Seen) -> anyhow::Result<Event> {
    match seen {
        Seen::Event(entry) => Ok(entry.event),
        other => bail!("{other:?} is no event"),
    }
}

fn ends(event: &Event, action: &EventId) -> bool {
    outcome(event).is_some_and(|(_, causes)| causes.contains(action))
}
