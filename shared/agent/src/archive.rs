//! A story in a file: what is known of it, its log, and how its turns went. One JSON value a line, the first says what
//! follows and the last that nothing is missing. A wire format: whoever reads it takes older versions too.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bus::{MAX_PLACE, Story};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use story::{EventId, LogEntry, Seq};

use crate::recording;

/// The version that is written.
pub const VERSION: u32 = 1;
/// The longest line that is read: a recording and its place.
const MAX_LINE: u64 = (recording::MAX_JSON as u64) + 4_096;
/// Where the last line must begin, from the end.
const TAIL: u64 = 256;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    /// The first.
    Export(Box<Head>),
    Log(Box<LogEntry>),
    Recording(Kept),
    /// The last.
    End(End),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    pub v: u32,
    pub story: Story,
    /// How often events of it were sent again after a failure.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redriven: BTreeMap<EventId, u64>,
}

/// A recording in its place: see [`bus::Kept`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    pub seq: Seq,
    pub epoch: String,
    pub agent: String,
    pub id: EventId,
    /// A [`Recording`](crate::Recording).
    pub turn: Box<RawValue>,
}

/// How many lines there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub events: u64,
    pub recordings: u64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} cannot be read")]
    Unreadable(PathBuf, #[source] std::io::Error),
    #[error("{0} is no export of a story: `storyfleet export --story ID` writes one")]
    Foreign(PathBuf),
    #[error("{0} is of version {1}, and this program reads up to {VERSION}: use a newer one")]
    Version(PathBuf, u32),
    #[error("{0} is cut off: its last line is not there. Export the story again")]
    Cut(PathBuf),
    #[error("{0}, line {1}: {2}")]
    Line(PathBuf, u64, String),
}

/// A file that is being read.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
    seen: End,
    ended: bool,
    pub head: Box<Head>,
}

impl Archive {
    /// Looks at its first line and at its last.
    ///
    /// # Errors
    /// When it is something else, of a later version, or cut off.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::Unreadable(path.to_owned(), error);
        // A pipe would be waited for.
        if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return Err(unreadable(std::io::Error::other("it is no file")));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        let whole = is_whole(&mut file).map_err(unreadable)?;
        let mut lines = BufReader::new(file);
        let first = line(&mut lines).map_err(unreadable)?;
        let head = head(path, &first.unwrap_or_default())?;
        if !whole {
            return Err(Error::Cut(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            lines,
            number: 1,
            seen: End::default(),
            ended: false,
            head,
        })
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::Line(self.path.clone(), self.number, what.into())
    }
}

/// An event or a recording; none after the last line.
impl Iterator for Archive {
    type Item = Result<Line, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.line();
        // After what cannot be read nothing is.
        self.ended = !matches!(line, Ok(Some(_)));
        line.transpose()
    }
}

impl Archive {
    fn line(&mut self) -> Result<Option<Line>, Error> {
        let Some(bytes) = self.bytes()? else {
            return Err(Error::Cut(self.path.clone()));
        };
        let line = serde_json::from_slice(&bytes).map_err(|error| self.wrong(error.to_string()))?;
        match &line {
            Line::Export(_) => return Err(self.wrong("a second export begins here")),
            Line::Log(entry) => {
                self.seen.events += 1;
                self.placed(entry.seq)?;
            }
            Line::Recording(kept) => {
                self.seen.recordings += 1;
                self.placed(kept.seq)?;
            }
            Line::End(end) if *end != self.seen => {
                return Err(self.wrong("lines are missing before it"));
            }
            Line::End(_) => {
                return match self.bytes()? {
                    Some(_) => Err(self.wrong("something follows the export's end")),
                    None => Ok(None),
                };
            }
        }
        Ok(Some(line))
    }

    fn placed(&self, seq: Seq) -> Result<(), Error> {
        let can_be = (1..=MAX_PLACE).contains(&seq.0);
        let wrong = || self.wrong(format!("no log has the place {seq}"));
        can_be.then_some(()).ok_or_else(wrong)
    }

    /// The next line without its end.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.number += 1;
        let bytes = line(&mut self.lines);
        let bytes = bytes.map_err(|error| Error::Unreadable(self.path.clone(), error))?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > MAX_LINE => Err(self.wrong("it is too long")),
            bytes => Ok(bytes),
        }
    }
}

fn head(path: &Path, first: &[u8]) -> Result<Box<Head>, Error> {
    #[derive(Deserialize)]
    struct Export {
        export: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let foreign = || Error::Foreign(path.to_owned());
    let version: Export = serde_json::from_slice(first).map_err(|_| foreign())?;
    if version.export.v > VERSION {
        return Err(Error::Version(path.to_owned(), version.export.v));
    }
    match serde_json::from_slice(first) {
        Ok(Line::Export(head)) => Ok(head),
        Ok(_) => Err(foreign()),
        Err(error) => Err(Error::Line(path.to_owned(), 1, error.to_string())),
    }
}

/// Whether the last line is the one that says so.
fn is_whole(file: &mut File) -> std::io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    file.rewind()?;
    let last = tail.strip_suffix(b"\n").unwrap_or_default();
    let last = last.rsplit(|byte| *byte == b'\n').next();
    Ok(last.is_some_and(|line| matches!(serde_json::from_slice(line), Ok(Line::End(_)))))
}

/// The next line without its end, or more than [`MAX_LINE`] bytes of it.
fn line(from: &mut BufReader<File>) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = from.take(MAX_LINE + 1).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((read > 0).then_some(line))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HEAD: &str = r#"{"export":{"v":1,"story":{"id":"castle","epoch":"e","seq":0,"created":"2026-11-24T01:02:03Z","title":"","style":"","premise":"","summary":"","policies":{},"characters":{},"lore":{}}}}"#;
    const EVENT: &str = r#"{"log":{"seq":1,"event":{"v":1,"id":"a1","type":"action","story":"castle","author":{"kind":"user","id":"u"},"mode":"do","text":"x","at":"2026-11-24T01:02:03Z"}}}"#;

    /// How many lines a file of these gives, or why it gives none.
    fn read(lines: &[&str], end: &str) -> Result<usize, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all((lines.join("\n") + end).as_bytes()).unwrap();
        let archive = Archive::open(file.path()).map_err(|error| error.to_string())?;
        let lines: Result<Vec<_>, _> = archive.collect();
        lines
            .map(|lines| lines.len())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_file_is_not_waited_for_and_no_line_is_longer_than_one_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let error = Archive::open(folder.path()).unwrap_err();
        assert!(crate::exit::line(&error.into()).ends_with("it is no file"));
        let end = r#"{"end":{"events":1,"recordings":0}}"#;
        let most = usize::try_from(MAX_LINE).unwrap();
        for (bytes, says) in [(most, None), (most + 1, Some("line 2: it is too long"))] {
            let padded = EVENT.to_owned() + &" ".repeat(bytes - EVENT.len());
            let read = read(&[HEAD, &padded, end], "\n");
            match says {
                None => assert_eq!(read, Ok(1)),
                Some(says) => assert!(read.unwrap_err().contains(says)),
            }
        }
    }

    #[test]
    fn a_file_that_is_whole_is_read_and_any_other_says_why_not() {
        let end = r#"{"end":{"events":1,"recordings":0}}"#;
        assert_eq!(read(&[HEAD, EVENT, end], "\n"), Ok(1));
        let placed = |seq: u64| EVENT.replacen("\"seq\":1", &format!("\"seq\":{seq}"), 1);
        assert_eq!(read(&[HEAD, &placed(MAX_PLACE), end], "\n"), Ok(1));
        let later = HEAD.replace("\"v\":1", "\"v\":9");
        for (lines, ends, says) in [
            (&[][..], "", "is no export"),
            (&["{}"], "\n", "is no export"),
            (&[EVENT, end], "\n", "is no export"),
            (&[later.as_str(), end], "\n", "is of version 9"),
            (&[HEAD, EVENT], "\n", "is cut off"),
            (&[HEAD, EVENT, end], "", "is cut off"),
            (&[HEAD, end], "\n", "line 2: lines are missing"),
            (&[HEAD, "{}", end], "\n", "line 2: "),
            (&[HEAD, HEAD, end], "\n", "line 2: a second export"),
            (&[HEAD, "", EVENT, end], "\n", "line 2: "),
            (&[HEAD, EVENT, "", end], "\n", "line 3: "),
            (&[HEAD, EVENT, end, ""], "\n", "is cut off"),
            (
                &[HEAD, &placed(0), end],
                "\n",
                "line 2: no log has the place 0",
            ),
            (
                &[HEAD, &placed(MAX_PLACE + 1), end],
                "\n",
                "line 2: no log has",
            ),
            (
                &[HEAD, EVENT, end, HEAD, EVENT, end],
                "\n",
                "line 4: something follows",
            ),
        ] {
            let error = read(lines, ends).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
