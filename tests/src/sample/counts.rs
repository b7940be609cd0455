//! How a sample went, counted from the story's export: its log, and the recordings of its turns.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use story::{Event, EventId, Outcome, Payload, Status};

/// What the prompt of a second try for a beat's choices is called.
const OUTLINE: &str = "narrator-outline@";

#[derive(Debug, Default, Serialize)]
pub struct Counts {
    pub actions: u64,
    pub answered: u64,
    pub failed: u64,
    pub blocked: u64,
    pub narrations: Texts,
    pub lines: Texts,
    /// The choices and speakers that each beat ends with.
    pub blocks: Blocks,
    /// Verdicts that readers see, by decision; what is allowed without one is not among them.
    pub verdicts: BTreeMap<String, u64>,
    /// Failures by class.
    pub classes: BTreeMap<String, u64>,
    pub calls: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Events that show the mark of the story's fences.
    pub marks: u64,
}

/// Texts of one kind, whole or cut at a limit.
#[derive(Debug, Default, Serialize)]
pub struct Texts {
    pub complete: u64,
    pub truncated: u64,
}

#[derive(Debug, Default, Serialize)]
pub struct Blocks {
    /// As the model wrote them behind its prose.
    pub valid: u64,
    /// Asked for once more, and good then.
    pub repaired: u64,
    /// The beat has no choices.
    pub failed: u64,
}

impl Counts {
    /// Of an export, and the mark of the story's fences.
    ///
    /// # Errors
    /// When a line of it cannot be read.
    pub(super) fn of(export: &[Value], mark: &str) -> anyhow::Result<Self> {
        let mut counts = Self::default();
        let mut actions = HashSet::new();
        for line in export {
            if let Some(entry) = line.get("log") {
                let json = entry["event"].to_string();
                counts.marks += u64::from(json.contains(mark));
                let event = Event::decode(json.as_bytes())?;
                counts.event(&event, &actions);
                if matches!(event.payload(), Payload::Action(_)) {
                    actions.insert(event.id);
                }
            } else if let Some(kept) = line.get("recording") {
                counts.turn(&kept["turn"]).context("a recording")?;
            }
        }
        Ok(counts)
    }

    /// `actions` are those before it: lines that a beat asked for end none.
    fn event(&mut self, event: &Event, actions: &HashSet<EventId>) {
        if let Some((outcome, ended)) = story::outcome(event) {
            let ended = ended.iter().filter(|id| actions.contains(id)).count() as u64;
            match outcome {
                Outcome::Answered => self.answered += ended,
                Outcome::Failed => self.failed += ended,
                Outcome::Blocked => self.blocked += ended,
            }
        }
        match event.payload() {
            Payload::Action(_) => self.actions += 1,
            Payload::Narration(narration) => self.narrations.add(narration.status),
            Payload::Dialogue(said) => self.lines.add(said.status),
            Payload::Verdict(verdict) => {
                let decision = format!("{:?}", verdict.decision).to_lowercase();
                *self.verdicts.entry(decision).or_default() += 1;
            }
            Payload::Failed(failed) => *self.classes.entry(failed.class.clone()).or_default() += 1,
            _ => {}
        }
    }

    fn turn(&mut self, turn: &Value) -> anyhow::Result<()> {
        let calls = turn["calls"].as_array().context("calls")?;
        self.calls += calls.len() as u64;
        let none = Vec::new();
        let spent = turn["effects"]["spent"].as_array().unwrap_or(&none);
        for report in spent {
            let tokens = |name: &str| report[name].as_u64().unwrap_or_default();
            self.tokens_in += tokens("tokens_in");
            self.tokens_out += tokens("tokens_out");
        }
        if turn["agent"] != "narrator" {
            return Ok(());
        }
        let Some(narration) = turn["effects"]["emit"][0].get("new") else {
            // The turn failed, and has no beat.
            return Ok(());
        };
        ensure!(narration["type"] == "narration", "{narration}");
        let is_of_outline = |report: &Value| {
            let prompt = report["prompt"].as_str();
            prompt.is_some_and(|prompt| prompt.starts_with(OUTLINE))
        };
        let choices = narration["choices"].as_array().map_or(0, Vec::len);
        match (choices, spent.iter().any(is_of_outline)) {
            (0, _) => self.blocks.failed += 1,
            (_, false) => self.blocks.valid += 1,
            (_, true) => self.blocks.repaired += 1,
        }
        Ok(())
    }
}

impl Texts {
    fn add(&mut self, status: Status) {
        match status {
            Status::Complete => self.complete += 1,
            Status::Truncated => self.truncated += 1,
        }
    }
}
