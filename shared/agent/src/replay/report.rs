//! What `replay` tells: each turn as it is gone through, and all of them at the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;
use story::{EventId, Seq, StoryId};

use super::args::Format;
use super::compare::{Difference, Level};
use super::judge::{Better, Judgement};
use super::places::Lost;
use super::source::PassedOver;
use super::table::{Side, Table};
use super::words::{changes, plain};
use super::{DIFFERS, MISSING, UNSTABLE};
use crate::exit;
use crate::recording::Recording;

/// How a turn went, held against its recording.
pub(crate) struct Verdict {
    /// As it was recorded.
    pub(crate) seq: Seq,
    /// Of the answer, as the log has it.
    pub(crate) place: Seq,
    pub(crate) agent: String,
    pub(crate) id: EventId,
    /// Or why it cannot be gone through.
    pub(crate) went: Result<Went, String>,
}

/// How it went this time.
pub(crate) struct Went {
    pub(crate) outcome: Outcome,
    pub(crate) differences: Vec<Difference>,
    /// The answers that the recording is of.
    pub(crate) answers: Vec<EventId>,
    pub(crate) again: Recording<'static>,
    pub(crate) sides: [Side; 2],
    /// What the judge said, or why it did not; none where nobody was asked.
    pub(crate) judged: Option<Result<Judgement, String>>,
}

impl Verdict {
    pub(crate) fn outcome(&self) -> Outcome {
        self.went
            .as_ref()
            .map_or(Outcome::Unusable, |went| went.outcome)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Same,
    Differs,
    /// It asked for what the recording has no answer to; the differences are those of the nearest request.
    Missing,
    /// It cannot be gone through.
    Unusable,
    /// Gone through twice, it went in two ways, which the differences are.
    Unstable,
}

/// All turns so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    turns: u64,
    outcomes: BTreeMap<Outcome, u64>,
    /// They differ, and that is taken for right.
    accepted: u64,
    levels: BTreeMap<Level, u64>,
    table: Table,
    pub(crate) answers: HashSet<EventId>,
}

impl Tally {
    pub(crate) fn add(&mut self, verdict: &Verdict) {
        self.turns += 1;
        *self.outcomes.entry(verdict.outcome()).or_default() += 1;
        let Ok(went) = &verdict.went else { return };
        let levels: HashSet<Level> = went.differences.iter().map(|found| found.level).collect();
        for level in levels {
            *self.levels.entry(level).or_default() += 1;
        }
        self.table.add(&went.sides, went.judged.as_ref());
        self.answers.extend(went.answers.iter().cloned());
    }

    pub(crate) fn turns(&self) -> u64 {
        self.turns
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns == 0
    }

    /// The turn that was added last differs, and that is taken for right.
    pub(crate) fn accept(&mut self) {
        if let Some(differ) = self.outcomes.get_mut(&Outcome::Differs) {
            *differ -= 1;
        }
        self.outcomes.retain(|_, count| *count > 0);
        self.accepted += 1;
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).copied().unwrap_or_default()
    }

    /// The exit code; the worst decides. `lost`: something that was asked for is not there.
    pub(crate) fn code(&self, lost: bool) -> u8 {
        match self.outcomes.keys().next_back() {
            Some(Outcome::Unstable) => UNSTABLE,
            Some(Outcome::Unusable) => exit::CONFIGURATION,
            _ if lost || self.turns == 0 => MISSING,
            Some(Outcome::Missing) => MISSING,
            Some(Outcome::Differs) => DIFFERS,
            _ => 0,
        }
    }
}

pub(crate) struct Report {
    format: Format,
    out: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(format: Format, out: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(folder) = &out {
            let made = std::fs::create_dir_all(folder);
            made.with_context(|| format!("{} cannot be made", folder.display()))
                .map_err(exit::configuration)?;
        }
        Ok(Self { format, out })
    }

    pub(crate) fn verdict(&self, verdict: &Verdict) -> anyhow::Result<()> {
        if let (Some(folder), Ok(went)) = (&self.out, &verdict.went) {
            let name = format!(
                "{:08}-{}-{}-{}.json",
                verdict.place.0,
                verdict.agent,
                file(&verdict.id),
                went.again.part
            );
            let path = folder.join(name);
            let json = serde_json::to_vec_pretty(&went.again)?;
            written(folder, &path, &json)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        if self.format == Format::Text {
            return say(&text(verdict));
        }
        let mut line = json!({
            "seq": verdict.place,
            "agent": verdict.agent,
            "event": verdict.id,
            "outcome": verdict.outcome(),
        });
        match &verdict.went {
            Ok(went) => {
                line["differences"] = json!(went.differences);
                line["judge"] = json!(went.judged.as_ref().map(|judged| match judged {
                    Ok(judgement) => json!(judgement),
                    Err(error) => json!({"failed": error}),
                }));
            }
            Err(why) => line["why"] = json!(why),
        }
        say(&line)
    }

    pub(crate) fn published(&self, id: &StoryId, events: u64) -> anyhow::Result<()> {
        match self.format {
            Format::Json => {
                let made = (events > 0).then_some(id);
                say(&json!({"published": made, "events": events}))
            }
            Format::Text if events == 0 => {
                say(&format!("{id} is not made: there is nothing to tell"))
            }
            Format::Text => say(&format!("made {id}: {events} events")),
        }
    }

    pub(crate) fn accepted(&self, turns: usize) -> anyhow::Result<()> {
        match self.format {
            Format::Json => say(&json!({"accepted": turns})),
            Format::Text => say(&format!("{turns} turns accepted")),
        }
    }

    /// `others`: what else is recorded, where nothing was found, and what was passed over in any case.
    /// `live`: a model answered, so that there is something to hold against the recordings.
    pub(crate) fn end(
        &self,
        tally: &Tally,
        lost: &Lost,
        (others, passed_over): (&str, &PassedOver),
        live: bool,
    ) -> anyhow::Result<()> {
        let Tally { turns, levels, .. } = tally;
        if self.format == Format::Json {
            let lost: Vec<_> = lost
                .iter()
                .map(|(seq, id)| json!({"seq": seq, "event": id}))
                .collect();
            let passed_over = passed_over.counts().into_iter();
            let passed_over: BTreeMap<_, _> = passed_over.map(|(name, _, n)| (name, n)).collect();
            let mut sum = json!({"turns": turns, "outcomes": tally.outcomes_named(), "levels": levels, "not_recorded": lost, "passed_over": passed_over, "table": tally.table.json()});
            if *turns == 0 {
                sum["no_recording"] = json!(others);
            }
            return say(&sum);
        }
        for (seq, id) in lost {
            say(&format!("seq {seq}  {}  not recorded", plain(id.as_str())))?;
        }
        if tally.turns == 0 {
            return say(&format!("no recording: {others}"));
        }
        let mut parts = vec![format!("{} same", tally.count(Outcome::Same))];
        if tally.accepted > 0 {
            parts.push(format!("{} accepted", tally.accepted));
        }
        for (outcome, word) in [
            (Outcome::Differs, "differ"),
            (Outcome::Missing, "ask for what is not recorded"),
            (Outcome::Unusable, "cannot be gone through"),
            (Outcome::Unstable, "are not deterministic"),
        ] {
            let count = tally.count(outcome);
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let mut line = format!("{turns} turns: {}", parts.join(", "));
        if !levels.is_empty() {
            let levels = levels
                .iter()
                .map(|(level, count)| format!("{} {count}", name(*level)));
            line += &format!(" ({})", levels.collect::<Vec<_>>().join(", "));
        }
        say(&line)?;
        let passed_over = passed_over.counts().into_iter().filter(|(.., n)| *n > 0);
        let passed_over: Vec<_> = passed_over
            .map(|(_, words, n)| format!("{n} {words}"))
            .collect();
        if !passed_over.is_empty() {
            say(&format!("passed over: {}", passed_over.join(", ")))?;
        }
        if live {
            for line in tally.table.text() {
                say(&line)?;
            }
        }
        Ok(())
    }
}

impl Tally {
    pub(crate) fn outcomes_named(&self) -> serde_json::Value {
        let counts = [
            Outcome::Same,
            Outcome::Differs,
            Outcome::Missing,
            Outcome::Unusable,
            Outcome::Unstable,
        ];
        let counts = counts.map(|outcome| {
            (
                json!(outcome).as_str().unwrap_or_default().to_owned(),
                json!(self.count(outcome)),
            )
        });
        serde_json::Value::Object(counts.into_iter().collect())
    }
}

fn name(level: Level) -> String {
    json!(level).as_str().unwrap_or_default().to_owned()
}

fn text(verdict: &Verdict) -> String {
    let place = format!(
        "seq {}  {}  {}",
        verdict.place,
        plain(&verdict.agent),
        plain(verdict.id.as_str())
    );
    let went = match &verdict.went {
        Ok(went) => went,
        Err(why) => return format!("{place}  cannot be gone through: {}", plain(why)),
    };
    let levels: BTreeSet<Level> = went.differences.iter().map(|found| found.level).collect();
    let levels: Vec<String> = levels.into_iter().map(name).collect();
    let word = match went.outcome {
        Outcome::Missing if levels.is_empty() => {
            "asks for what is not recorded: it has no other request".to_owned()
        }
        Outcome::Same => "same".to_owned(),
        Outcome::Differs => format!("differs: {}", levels.join(", ")),
        Outcome::Missing => {
            "asks for what is not recorded; the nearest request differs in:".to_owned()
        }
        Outcome::Unstable => format!("not deterministic: {}", levels.join(", ")),
        Outcome::Unusable => "cannot be gone through".to_owned(),
    };
    let mut lines = vec![format!("{place}  {word}")];
    for found in &went.differences {
        lines.push(format!("  {}: {}", name(found.level), found.place));
        lines.extend(changes(&found.recorded, &found.replayed));
    }
    lines.extend(went.judged.as_ref().map(|judged| match judged {
        Ok(Judgement { better, reason }) => {
            let better = match better {
                Better::Recorded => "the recorded answer is better",
                Better::Replayed => "the new answer is better",
                Better::Neither => "neither is better",
            };
            format!("  judge: {better}: {}", plain(reason))
        }
        Err(error) => format!("  judge: {}", plain(error)),
    }));
    lines.join("\n")
}

/// As a whole, or not at all.
fn written(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut new = tempfile::Builder::new();
    let mut new = new
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)?;
    new.write_all(bytes)?;
    new.persist(path)?;
    Ok(())
}

/// An id of any characters as a part of a file's name.
fn file(id: &EventId) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    id.as_str()
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .collect()
}

pub(super) fn say(line: &impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").context("the output cannot be written")
}
