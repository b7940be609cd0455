//! Where in the log turns were answered.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use futures::TryStreamExt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use story::{Agent, AuthorKind, Event, EventId, Payload, Seq};

use super::source::{Found, Source};

/// Answers of the agent that there is no recording of.
pub(crate) type Lost = Vec<(Seq, EventId)>;

/// The places of an agent's answers, and which of them are asked for.
#[derive(Debug)]
pub(crate) struct Places {
    agent: Agent,
    asked: Option<RangeInclusive<u64>>,
    /// By their ids.
    answers: HashMap<EventId, Seq>,
}

impl Places {
    /// `asked`: none, for all.
    pub(crate) async fn of(
        source: &Source,
        agent: Agent,
        asked: Option<RangeInclusive<u64>>,
    ) -> anyhow::Result<Self> {
        let mut answers = HashMap::new();
        let mut log = source.log();
        while let Some(entry) = log.try_next().await? {
            let event = entry.event;
            let by = event.author.kind == AuthorKind::Agent && event.author.id == agent.as_str();
            let answered = matches!(
                event.payload(),
                Payload::Narration(_)
                    | Payload::Dialogue(_)
                    | Payload::Verdict(_)
                    | Payload::Retracted(_)
            );
            if by && answered {
                answers.insert(event.id, entry.seq);
            }
        }
        Ok(Self {
            agent,
            asked,
            answers,
        })
    }

    /// The agent's own recordings are found by it.
    pub(crate) fn agent(&self) -> Agent {
        self.agent
    }

    /// The place of the turn's answer. One that waited for a verdict has another than its recording could know: that has
    /// the log's end.
    pub(crate) fn place(&self, found: &Found) -> Seq {
        #[derive(Deserialize)]
        struct Answered {
            event: Event,
            part: u32,
            effects: Option<IgnoredAny>,
        }
        let answer = || {
            let json = found.json.as_ref().ok()?;
            let answered: Answered = serde_json::from_slice(json).ok()?;
            // One that failed may have been answered by a later turn.
            answered.effects?;
            let answer = answered.event.response(self.agent, answered.part);
            self.answers.get(&answer).copied()
        };
        answer().unwrap_or(found.seq)
    }

    /// Whether not all are asked for.
    pub(crate) fn are_chosen(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it is asked for.
    pub(crate) fn has(&self, place: Seq) -> bool {
        let asked = self.asked.as_ref();
        asked.is_none_or(|asked| asked.contains(&place.0))
    }

    /// What is asked for and not among the answers that were `told`, in the log's order; nothing where all are.
    pub(crate) fn lost(self, told: &HashSet<EventId>) -> Lost {
        let Some(asked) = self.asked else {
            return Lost::default();
        };
        let lost = self
            .answers
            .into_iter()
            .filter(|(id, seq)| asked.contains(&seq.0) && !told.contains(id));
        let mut lost: Lost = lost.map(|(id, seq)| (seq, id)).collect();
        lost.sort();
        lost
    }
}
