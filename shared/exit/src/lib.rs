//! How a program ends that cannot go on: one line on stderr that says what to do, and an exit code that says who must act.

use std::borrow::Cow;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Wrong usage or configuration: started again as it is, the program would end the same way.
pub const CONFIGURATION: u8 = 2;

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Configuration(anyhow::Error);

/// Marks an error that only another configuration helps against.
pub fn configuration(error: impl Into<anyhow::Error>) -> anyhow::Error {
    Configuration(error.into()).into()
}

/// Whether it was marked so.
#[must_use]
pub fn is_configuration(error: &anyhow::Error) -> bool {
    error.is::<Configuration>()
}

/// Tells the error, and gives 2 when only another configuration helps against it, else 1.
#[must_use]
pub fn failed(error: &anyhow::Error) -> ExitCode {
    tell(&line(error));
    if is_configuration(error) {
        ExitCode::from(CONFIGURATION)
    } else {
        ExitCode::FAILURE
    }
}

/// Tells what is wrong with the command line, or what was asked for with `--help`.
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                tell(&format!("standard output cannot be written: {error}"));
                ExitCode::FAILURE
            }
            // Whoever read it has seen enough.
            Ok(()) | Err(_) => ExitCode::SUCCESS,
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            write(&error.to_string());
            ExitCode::from(CONFIGURATION)
        }
        _ => {
            tell(&usage_line(&cut(error)));
            ExitCode::from(CONFIGURATION)
        }
    }
}

/// Characters of what was written on the command line that are shown.
const SHOWN: usize = 200;

/// What clap says, with the beginning of what was written where that is long.
fn cut(error: &clap::Error) -> String {
    let mut text = error.to_string();
    for (kind, value) in error.context() {
        let is_written = matches!(kind, ContextKind::InvalidValue | ContextKind::InvalidArg);
        let ContextValue::String(written) = value else {
            continue;
        };
        if let Some((end, _)) = written.char_indices().nth(SHOWN).filter(|_| is_written) {
            text = text.replace(written.as_str(), &format!("{}…", &written[..end]));
        }
    }
    text
}

/// The error and its causes on one line, fit for a terminal. It ends where the first of all causes has been told, since
/// some errors tell their source's words too.
#[must_use]
pub fn line(error: &anyhow::Error) -> String {
    let root = error.root_cause().to_string();
    let mut told = String::new();
    for cause in error.chain() {
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause.to_string());
        if told.contains(&root) {
            break;
        }
    }
    one_line(&told)
}

/// Text on one line without control characters, fit for a terminal.
#[must_use]
pub fn one_line(text: &str) -> String {
    let clean = text.replace(story::steers, " ");
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What clap says in paragraphs.
fn usage_line(text: &str) -> String {
    let ends = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more");
    let told: Vec<_> = text.lines().take_while(ends).collect();
    let told = one_line(&told.join(" "));
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    let told = without_key(told);
    let words: Vec<_> = told.split(' ').map(without_login).collect();
    format!("{}; --help shows what can be written", words.join(" "))
}

/// What is in a file of a key and was given for its path begins as an option does.
fn without_key(text: &str) -> Cow<'_, str> {
    let Some(begin) = text.find("-----BEGIN") else {
        return Cow::Borrowed(text);
    };
    let end = text.rfind("-----").map_or(text.len(), |end| end + 5);
    let rest = if end > begin + 10 { &text[end..] } else { "" };
    Cow::Owned(format!("{}…{rest}", &text[..begin]))
}

/// A URL that was written in the wrong place keeps its password to itself.
fn without_login(word: &str) -> Cow<'_, str> {
    match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            Cow::Owned(format!("{}://…{}", &word[..scheme], &word[at..]))
        }
        _ => Cow::Borrowed(word),
    }
}

/// Writes one line on stderr: logs may not run yet, and whoever started the program reads stderr.
pub fn tell(text: &str) {
    write(&format!("error: {text}\n"));
}

/// A line on stderr for the person at the terminal that is no error.
pub fn note(text: &str) {
    write(&format!("{text}\n"));
}

fn write(text: &str) {
    // There is nowhere left to say that stderr is closed; the exit code says the rest.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow!("refused").context("cannot connect: refused");
        assert_eq!(
            line(&error.context("Redis is away")),
            "Redis is away: cannot connect: refused"
        );
    }

    #[test]
    fn only_what_another_configuration_helps_against_is_marked() {
        let code = |error: &anyhow::Error| format!("{:?}", failed(error));
        let marked = configuration(anyhow!("no key")).context("cannot start");
        assert_eq!(code(&marked), format!("{:?}", ExitCode::from(2)));
        assert_eq!(code(&anyhow!("full")), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn a_line_for_the_terminal_has_no_escape_in_it() {
        assert_eq!(one_line("bad\r\n\u{1b}[31m  key"), "bad [31m key");
    }

    #[test]
    fn of_a_long_argument_the_beginning_is_told_with_the_reason() {
        let short = |text: &str| {
            if text.len() > 64 {
                return Err("it has at most 64 bytes");
            }
            Ok(text.to_owned())
        };
        let id = clap::Arg::new("id").long("id").value_parser(short);
        let command = clap::Command::new("x").arg(id);
        for words in [["x", "--id", "aaaaaaaa"], ["x", "aaaaaaaa", "b"]] {
            let long = words.map(|word| word.replace("aaaaaaaa", &"ä".repeat(70_000)));
            let told = cut(&command.clone().try_get_matches_from(long).unwrap_err());
            assert!(told.len() < 1_000, "{}", told.len());
            assert!(told.contains(&format!("{}…", "ä".repeat(SHOWN))), "{told}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_one_line_without_a_password() {
        let told = "error: unexpected argument 'redis://:word@host:1' found\n\nUsage: storyfleet audit\n\nFor more information, try '--help'.\n";
        assert_eq!(
            usage_line(told),
            "unexpected argument 'redis://…@host:1' found; --help shows what can be written"
        );
        let told = "error: unexpected argument '-----BEGIN PRIVATE KEY-----\nMC4C/AQ\n-----END PRIVATE KEY-----' found\n";
        assert_eq!(
            usage_line(told),
            "unexpected argument '…' found; --help shows what can be written"
        );
    }
}
