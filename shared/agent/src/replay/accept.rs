//! Takes what came of turns for the recording, in the file that it is in: for golden stories whose prompts were changed on
//! purpose.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use story::{EventId, Seq};

use super::report::{Outcome, Verdict, Went};
use crate::archive::{Archive, Line};

/// What came of turns, by what they are found by in a file.
#[derive(Default)]
pub(crate) struct Accepted(HashMap<Key, Box<RawValue>>);

/// A place, an agent, an event and which of its steps.
type Key = (Seq, String, EventId, u32);

impl Accepted {
    /// Whether it is taken: not what was not even gone through, and no failure in the place of an answer.
    pub(crate) fn add(&mut self, verdict: &Verdict) -> anyhow::Result<bool> {
        let Ok(Went {
            outcome,
            again,
            sides: [was, is],
            ..
        }) = &verdict.went
        else {
            return Ok(false);
        };
        let takes = *outcome == Outcome::Differs && is.failed <= was.failed;
        if takes {
            let (agent, id) = (verdict.agent.clone(), verdict.id.clone());
            let key = (verdict.seq, agent, id, again.part);
            self.0.insert(key, to_raw_value(again)?);
        }
        Ok(takes)
    }

    /// Writes the file anew; as it was until all of it is written. Gives how many turns changed.
    pub(crate) fn write(mut self, file: &Path) -> anyhow::Result<usize> {
        let changed = self.0.len();
        if changed == 0 {
            return Ok(0);
        }
        // Where it is a link, what it leads to.
        let file = &file
            .canonicalize()
            .with_context(|| format!("{} cannot be found", file.display()))?;
        let archive = Archive::open(file)?;
        let epoch = archive.head.story.epoch.clone();
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let mut new = new.with_context(|| format!("{} cannot be written anew", file.display()))?;
        let mut out = std::io::BufWriter::new(new.as_file_mut());
        let mut put = |line: &Line| -> anyhow::Result<()> {
            serde_json::to_writer(&mut out, line)?;
            Ok(out.write_all(b"\n")?)
        };
        put(&Line::Export(archive.head.clone()))?;
        let mut end = crate::archive::End::default();
        for line in archive {
            let line = match line? {
                Line::Recording(mut kept) => {
                    end.recordings += 1;
                    let step: Step = serde_json::from_str(kept.turn.get())?;
                    let key = (kept.seq, kept.agent.clone(), kept.id.clone(), step.part);
                    // Of an earlier life of the log nothing was gone through.
                    if kept.epoch == epoch {
                        kept.turn = self.0.remove(&key).unwrap_or(kept.turn);
                    }
                    Line::Recording(kept)
                }
                line => {
                    end.events += 1;
                    line
                }
            };
            put(&line)?;
        }
        put(&Line::End(end))?;
        out.flush()?;
        out.get_ref().sync_all()?;
        drop(out);
        let mode = std::fs::metadata(file)?.permissions();
        new.as_file().set_permissions(mode)?;
        new.persist(file)?;
        Ok(changed)
    }
}

/// Of a recording, what tells the steps of one event apart.
#[derive(Deserialize)]
struct Step {
    part: u32,
}
