//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::cuts::blows::Blows;
use crate::cuts::plan::Size;
use crate::cuts::player::Played;
use crate::cuts::reader::{Cuts, Transport};
use crate::cuts::screen::Tally;

/// Complaints that people are shown; a program is given all.
const SHOWN: usize = 20;

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: f64,
    pub stories: u32,
    pub readers: BTreeMap<Transport, u64>,
    pub cuts: Cuts,
    pub resumes: BTreeMap<String, u64>,
    pub blows: Blows,
    pub played: Played,
    pub seen: Tally,
    /// How many seconds a connected reader was without what others had, at most; Redis's absence is not counted.
    pub behind: f64,
    /// Of the committed log.
    pub log: Committed,
    /// Readers whose (seq, id, text) of all events are those of the log.
    pub equal: u64,
    /// What is wrong; empty is success.
    pub wrong: Vec<String>,
    /// Where the data and logs of a run with faults are.
    pub kept: Option<PathBuf>,
    #[serde(skip)]
    size: Size,
}

/// What the logs have.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Committed {
    pub events: u64,
    pub responses: u64,
    pub characters: u64,
    pub failed: u64,
    pub taken_back: u64,
    /// The most and the fewest characters of a response.
    pub longest: u64,
    pub shortest: u64,
}

impl Report {
    pub(super) fn new(size: Size, seconds: f64, blows: Blows) -> Self {
        Self {
            seed: size.seed,
            seconds,
            stories: size.stories,
            readers: BTreeMap::new(),
            cuts: Cuts::default(),
            resumes: BTreeMap::new(),
            blows,
            played: Played::default(),
            seen: Tally::default(),
            behind: 0.0,
            log: Committed::default(),
            equal: 0,
            wrong: Vec::new(),
            kept: None,
            size,
        }
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    pub(super) fn cuts(&mut self, cuts: &Cuts) {
        let all = &mut self.cuts;
        all.dropped += cuts.dropped;
        all.reset += cuts.reset;
        all.silent += cuts.silent;
        all.in_frame += cuts.in_frame;
        all.died += cuts.died;
        all.refused += cuts.refused;
        for (why, count) in &cuts.sent_away {
            *all.sent_away.entry(why.clone()).or_default() += count;
        }
    }

    /// A run that did not show what it is for is not clean.
    pub(super) fn finish(&mut self) {
        let (cuts, blows, seen) = (&self.cuts, &self.blows, &self.seen);
        let resumed = |kind: &str| self.resumes.get(kind).copied().unwrap_or_default();
        let readers: u64 = self.readers.values().sum();
        for (what, count) in [
            ("no connection was dropped", cuts.dropped),
            ("no connection was reset", cuts.reset),
            ("no connection was left silently", cuts.silent),
            ("no connection was cut in a frame", cuts.in_frame),
            ("no connection died with its node", cuts.died),
            ("no agent was killed", blows.agents_killed.into()),
            ("no node was killed", blows.nodes_killed.into()),
            ("Redis was never restarted", blows.redis_restarts.into()),
            ("nobody acted over WebSocket", self.played.over_socket),
            ("nobody acted over HTTP", self.played.over_http),
            ("nobody came back into a draft", resumed("delta")),
            ("nobody came back to an event", resumed("event")),
            ("no draft began anew", seen.resets),
            ("no text was taken back", self.log.taken_back),
            ("no event came amid an answer", seen.amid),
        ] {
            if count == 0 {
                self.wrong.push(what.to_owned());
            }
        }
        // The others were cut off in between, which costs a snapshot.
        if 5 * seen.from_deltas < seen.responses {
            let (whole, all) = (seen.from_deltas, seen.responses);
            self.wrong.push(format!(
                "{whole} of {all} responses were put together of deltas"
            ));
        }
        let wanted = u64::from(self.size.cuts);
        if cuts.ours() != wanted {
            let cuts = cuts.ours();
            self.wrong.push(format!("{cuts} cuts of {wanted}"));
        }
        if self.equal != readers || readers != u64::from(self.size.readers) {
            let equal = self.equal;
            let wanted = self.size.readers;
            self.wrong.push(format!(
                "{equal} of {readers} readers of {wanted} have the log"
            ));
        }
        if 10 * self.log.failed > self.log.responses {
            let (failed, responses) = (self.log.failed, self.log.responses);
            self.wrong
                .push(format!("{failed} failures beside {responses} responses"));
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = self.rows_of_play();
        rows.extend(self.rows_of_readers());
        rows
    }

    /// What was done to them.
    fn rows_of_play(&self) -> Vec<(&'static str, String)> {
        let (cuts, blows) = (&self.cuts, &self.blows);
        let readers = self.readers.iter().map(|(kind, n)| format!("{kind:?} {n}"));
        vec![
            ("seed", self.seed.to_string()),
            ("readers", readers.collect::<Vec<_>>().join(", ")),
            (
                "cuts",
                format!(
                    "{}: dropped {}, reset {}, silent {}; in a frame {}",
                    cuts.ours(),
                    cuts.dropped,
                    cuts.reset,
                    cuts.silent,
                    cuts.in_frame
                ),
            ),
            (
                "other ends",
                format!("died {}, {}", cuts.died, list(&cuts.sent_away)),
            ),
            ("refused", cuts.refused.to_string()),
            ("resumed with", list(&self.resumes)),
            (
                "killed",
                format!(
                    "agents {}, nodes {}, Redis {}",
                    blows.agents_killed, blows.nodes_killed, blows.redis_restarts
                ),
            ),
            (
                "actions",
                format!(
                    "socket {}, HTTP {}; duplicates {}, in vain {}",
                    self.played.over_socket,
                    self.played.over_http,
                    self.played.duplicates,
                    self.played.in_vain
                ),
            ),
        ]
    }

    /// What they have, and what the logs have.
    fn rows_of_readers(&self) -> Vec<(&'static str, String)> {
        let (seen, log) = (&self.seen, &self.log);
        vec![
            (
                "logs",
                format!(
                    "{} events, {} responses of {} to {} characters, {} failed, {} taken back",
                    log.events,
                    log.responses,
                    log.shortest,
                    log.longest,
                    log.failed,
                    log.taken_back
                ),
            ),
            (
                "readers saw",
                format!(
                    "{} events ({} amid an answer), {} deltas ({} characters), {} snapshots, {} resets, {} voids, {} gaps",
                    seen.events,
                    seen.amid,
                    seen.deltas,
                    seen.characters,
                    seen.snapshots,
                    seen.resets,
                    seen.voids,
                    seen.gaps
                ),
            ),
            (
                "responses",
                format!(
                    "{} read, {} drafted, {} whole before their commit, {} of deltas alone, {} replaced",
                    seen.responses, seen.drafted, seen.whole, seen.from_deltas, seen.replaced
                ),
            ),
            (
                "behind others",
                format!("{:.1} s at most, while connected", self.behind),
            ),
            ("text equal", format!("{} readers, all events", self.equal)),
            ("seconds", format!("{:.1}", self.seconds)),
        ]
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let counts = counts.iter().map(|(name, n)| format!("{name} {n}"));
    counts.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.rows() {
            writeln!(f, "{name:<14} {value}")?;
        }
        for wrong in self.wrong.iter().take(SHOWN) {
            let wrong: String = wrong.chars().take(600).collect();
            writeln!(f, "WRONG: {wrong}")?;
        }
        if self.wrong.len() > SHOWN {
            writeln!(f, "and {} more", self.wrong.len() - SHOWN)?;
        }
        if let Some(kept) = &self.kept {
            writeln!(f, "kept: {}", kept.display())?;
        }
        write!(
            f,
            "{}",
            if self.is_clean() {
                "clean"
            } else {
                "NOT clean"
            }
        )
    }
}
