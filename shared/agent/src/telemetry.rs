//! Logs: JSON for machines, lines for people. What people wrote is never logged raw: JSON escapes control characters,
//! and the pretty format prints fields with their debug form.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// The form of the logs, which go to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Pretty,
    Json,
}

/// Starts logging for the whole process. `filter` is a list of directives as in `RUST_LOG`.
///
/// # Errors
/// When the filter cannot be read or logging runs already.
pub fn start(format: Format, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| anyhow::anyhow!("the log filter '{filter}' cannot be read: {error}"))?
        .add_directive(llm::QUIET.parse()?);
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_writer(io::stderr);
    let started = match format {
        Format::Pretty => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => logs
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(place, said, "panic");
    }));
    Ok(())
}

/// Text on one line without control characters, fit for a terminal.
pub(crate) fn one_line(text: &str) -> String {
    let clean = text.replace(char::is_control, " ");
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_terminal_has_no_escape_in_it() {
        assert_eq!(one_line("bad\r\n\u{1b}[31m  key"), "bad [31m key");
    }
}
