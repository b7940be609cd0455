//! Logs, beside which spans may be exported: JSON for machines, lines for people. Each is one line whatever people or models
//! wrote into it: an error may quote them.

use std::fmt;
use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::spans::{self, Exporting, Traces};

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
    start_traced((format, filter), &Traces::default(), "").map(drop)
}

/// The same, and has the spans of the program `name` sent where `traces` says.
///
/// # Errors
/// Those, or when traces cannot be sent there.
pub fn start_traced(
    (format, filter): (Format, &str),
    traces: &Traces,
    name: &'static str,
) -> anyhow::Result<Exporting> {
    let filter = directives(filter)?;
    let (layer, exporting) = spans::layer(traces, name)?;
    let ansi = format == Format::Pretty && io::stderr().is_terminal();
    logs(format, filter, ansi, io::stderr, layer)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload_as_str().unwrap_or("no words");
        tracing::error!(place, said, "panic");
    }));
    Ok(exporting)
}

/// What is logged: no text of a model, and no span or event that is for collectors alone.
fn directives(filter: &str) -> anyhow::Result<EnvFilter> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| anyhow::anyhow!("the log filter '{filter}' cannot be read: {error}"))?;
    Ok(parsed
        .add_directive(llm::QUIET.parse()?)
        .add_directive(format!("{}=off", spans::TARGET).parse()?)
        .add_directive(format!("{}=off", spans::CONTENT).parse()?))
}

/// Logs through `filter`, beside `traces`, which have one of their own. Where there are none, it is the filter of all: what no
/// log takes is not even made. A layer that is not there would ask for every span and event of every library.
fn logs<W, T>(
    format: Format,
    filter: EnvFilter,
    ansi: bool,
    writer: W,
    traces: Option<T>,
) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    T: Layer<Registry> + Send + Sync + 'static,
{
    match traces {
        Some(traces) => {
            let logs = lines(format, ansi, writer).with_filter(filter);
            Registry::default().with(traces).with(logs).into()
        }
        None => {
            let logs = lines(format, ansi, writer);
            Registry::default().with(filter).with(logs).into()
        }
    }
}

fn lines<W, S>(format: Format, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_timer(SystemTime)
        .with_ansi(ansi)
        // It would tell of a log that cannot be written on that same stderr, and panic: each line would cost a turn.
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        Format::Pretty => lines.fmt_fields(OneLine).boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    }
}

/// Messages and fields, with what would steer a terminal escaped. The library alone does so for messages, not for fields.
struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut to: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        text.chars().try_for_each(|c| {
            if story::steers(c) {
                write!(to, "{}", c.escape_default())
            } else {
                to.write_char(c)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::Identity;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_for_collectors_is_not_in_logs() {
        for traces in [None, Some(Identity::new())] {
            let written = Written::default();
            let make = {
                let written = written.clone();
                move || written.clone()
            };
            let filter = directives("trace").unwrap();
            let logs = logs(Format::Json, filter, false, make, traces);
            tracing::dispatcher::with_default(&logs, || {
                let _turn = tracing::info_span!("turn", story = "castle").entered();
                let _redis = spans::redis("commit").entered();
                tracing::info!(target: spans::CONTENT, "the dragon wakes");
                tracing::info!("done");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&line["message"], &line["span"]["name"]),
                (&"done".into(), &"turn".into())
            );
        }
    }

    #[test]
    fn what_nobody_takes_is_not_made() {
        let filter = directives("info").unwrap();
        let logs = logs(Format::Json, filter, false, io::sink, None::<Identity>);
        tracing::dispatcher::with_default(&logs, || {
            assert!(spans::redis("commit").is_disabled());
            assert!(!tracing::enabled!(target: "hyper", tracing::Level::TRACE));
            assert!(!tracing::enabled!(target: spans::CONTENT, tracing::Level::INFO));
            assert!(tracing::enabled!(tracing::Level::INFO));
        });
    }

    #[test]
    fn whatever_an_error_quotes_it_is_one_line() {
        let quoted = "a\r\n2026 ERROR all is lost\u{1b}[2J\u{202e}\u{9b}b\u{2028}";
        for (format, ansi) in [
            (Format::Pretty, false),
            (Format::Pretty, true),
            (Format::Json, false),
        ] {
            let written = Written::default();
            let make = {
                let written = written.clone();
                move || written.clone()
            };
            let logs = logs(format, EnvFilter::new("info"), ansi, make, None::<Identity>);
            tracing::dispatcher::with_default(&logs, || {
                let _span = tracing::info_span!("turn", story = %quoted).entered();
                tracing::warn!(error = %anyhow::anyhow!(quoted), quoted, "no {quoted}");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            let line = text.strip_suffix('\n').unwrap();
            assert!(
                !line.contains('\n') && !line.contains("\u{1b}[2J"),
                "{line:?}"
            );
            match serde_json::from_str::<serde_json::Value>(line) {
                Ok(json) => assert_eq!(json["error"], quoted),
                Err(_) if ansi => {}
                Err(_) => {
                    assert!(!line.contains(story::steers), "{line:?}");
                    assert!(line.contains(r"error=a\r\n2026 ERROR all"), "{line}");
                }
            }
        }
    }
}
