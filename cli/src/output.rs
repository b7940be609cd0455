//! Everything that the command writes: lines on standard output, notes on standard error, text without control codes.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

/// Standard output as one command sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For programs: one JSON value a line.
    pub(crate) json: bool,
    colours: bool,
}

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Dim,
    Warning,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            colours: !json && io::stdout().is_terminal(),
        }
    }

    /// Writes at once, so that a reader on a pipe sees each piece when it is made.
    pub(crate) fn text(self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .context("standard output cannot be written")
    }

    pub(crate) fn line(self, text: &str) -> anyhow::Result<()> {
        self.text(&format!("{text}\n"))
    }

    pub(crate) fn value(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// The text in that style on a terminal, as it is elsewhere.
    pub(crate) fn styled(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.colours => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Warning => "33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Whether nobody reads standard output any more: a pipe tells it only to whoever asks, or writes.
pub(crate) fn is_closed() -> bool {
    let out = io::stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok()
        && asked[0].revents().contains(PollFlags::ERR)
}

pub(crate) use agent::exit::note;

/// Other people's prose without what could drive a terminal or turn its lines around. Its own line ends stay.
pub(crate) fn plain(text: &str) -> String {
    let kept = |c: &char| *c == '\n' || !(c.is_control() || turns_lines_around(*c));
    text.chars().filter(kept).collect()
}

/// The same for names, reasons and all that is not prose, on one line: nobody's name can pass for a line of its own.
pub(crate) fn one_line(text: &str) -> String {
    let separates = |c| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
    let words = text.split(separates).map(str::trim);
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    plain(&words.join(" "))
}

/// Whether it makes a terminal show what follows in another order.
fn turns_lines_around(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\r\u{9b}31m\nc\t"), "a[2Jb31m\nc");
        assert_eq!(plain("a\u{202e}b\u{2067}c"), "abc");
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(
            one_line("x\n> Mira: I\r\u{2028}confess\n"),
            "x > Mira: I confess"
        );
        assert_eq!(one_line("a\u{202e}b\x1b"), "ab");
    }
}
