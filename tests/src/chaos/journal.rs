//! What the workers' logs tell. A line is written after the fact it tells of, so a killed worker may have done more.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::chaos::secret;

/// The filter of a log that tells of each turn.
pub(crate) const TURNS: &str = "info,agent::turn::end=debug";

#[derive(Debug, Clone, Default, Serialize)]
pub struct Journal {
    /// Turns that came to their end, by agent. Workers tell of them where they are asked to: [`TURNS`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub done: BTreeMap<String, u64>,
    /// Commits and burials of a worker whose event another one had taken over.
    pub fenced: u64,
    /// Commits and burials of an event that had ended: by a reply that was lost, or by another worker.
    pub gone: u64,
    /// Events taken over after their lease.
    pub reclaimed: u64,
    /// Deliveries that were charged for nothing before those that counted: an event that is handed on begins at 1 again.
    pub charged: u64,
    /// Renewals that found the lease to be another worker's.
    pub leases_lost: u64,
    /// Workers' last words, and lines that tell what was blocked.
    #[serde(skip)]
    pub(crate) wrong: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    message: Option<String>,
    result: Option<String>,
    deliveries: Option<u64>,
}

/// Reads all logs in a folder: `<agent>-<number>.log`.
pub(crate) fn read(logs: &Path) -> anyhow::Result<Journal> {
    let mut journal = Journal::default();
    for file in logs.read_dir()? {
        let path = file?.path();
        let name = path.file_stem().and_then(OsStr::to_str);
        let agent = name.and_then(|name| name.split('-').next());
        let agent = agent.with_context(|| format!("whose log is {}", path.display()))?;
        let lines = BufReader::new(std::fs::File::open(&path)?).lines();
        for line in lines {
            let line = line.with_context(|| format!("{} is no text", path.display()))?;
            journal.line(agent, &line);
        }
    }
    Ok(journal)
}

impl Journal {
    fn line(&mut self, agent: &str, text: &str) {
        if secret::is_in(text) {
            self.wrong
                .push(format!("a log tells what was blocked: {text}"));
        }
        // A worker that cannot even begin says so in plain words.
        let Ok(line) = serde_json::from_str::<Line>(text) else {
            self.wrong.push(text.to_owned());
            return;
        };
        match (line.message.as_deref(), line.result.as_deref()) {
            (Some("ended"), Some("done")) => {
                *self.done.entry(agent.to_owned()).or_default() += 1;
            }
            (Some("ended"), Some("fenced")) => self.fenced += 1,
            (Some("ended"), Some("gone")) => self.gone += 1,
            (Some("took over an event"), _) => {
                self.reclaimed += 1;
                self.charged += line.deliveries.unwrap_or(1).saturating_sub(1);
            }
            (Some("panic"), _) => self.wrong.push(text.to_owned()),
            (Some(message), _) if message.starts_with("lease lost") => self.leases_lost += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_count_are_those_that_workers_write() {
        let mut journal = Journal::default();
        for line in [
            r#"{"level":"INFO","message":"ended","result":"fenced","outcome":"Lost"}"#,
            r#"{"level":"INFO","message":"ended","result":"gone","outcome":"Lost"}"#,
            r#"{"level":"INFO","message":"ended","result":"done","outcome":"Answered"}"#,
            r#"{"level":"INFO","message":"took over an event","lease":"0/1-0","deliveries":2}"#,
            r#"{"level":"WARN","message":"lease lost: another worker has the event"}"#,
            r#"{"level":"ERROR","message":"panic","place":"src/lib.rs:1"}"#,
            "error: the URL is wrong",
            r#"{"level":"INFO","message":"sending","text":"5555 5555 5555 4444"}"#,
        ] {
            journal.line("narrator", line);
        }
        let counts = [
            journal.done["narrator"],
            journal.fenced,
            journal.gone,
            journal.reclaimed,
            journal.charged,
            journal.leases_lost,
        ];
        assert_eq!((counts, journal.wrong.len()), ([1; 6], 3));
    }
}
