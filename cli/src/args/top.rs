//! `storyfleet top`.

use std::time::Duration;

use clap::Args;

const FASTEST: Duration = Duration::from_millis(100);
const SLOWEST: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Between two looks: 100ms to 60s
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = pause)]
    pub(crate) every: Duration,
    /// Print the table once as text, or with --json as one object. So it is without a terminal, too
    #[arg(long)]
    pub(crate) once: bool,
    /// Pages of workers and gateways as Prometheus reads them: how long turns take, and how many read
    #[arg(long, env = "STORYFLEET_TOP_METRICS", value_name = "URL", num_args = 1.., value_delimiter = ',', value_parser = page)]
    pub(crate) metrics: Vec<String>,
    /// No colours: as the variable, whatever its value is unless it is empty
    #[arg(long, env = "NO_COLOR", value_name = "ANY", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub(crate) no_color: Option<String>,
}

impl TopArgs {
    pub(crate) fn colours(&self) -> bool {
        self.no_color.as_deref().unwrap_or_default().is_empty()
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let wanted = "write it like 500ms or 2s: at least 100ms, at most 60s";
    let span: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let pause = Duration::try_from(span).map_err(|_| wanted.to_owned())?;
    if (FASTEST..=SLOWEST).contains(&pause) {
        Ok(pause)
    } else {
        Err(wanted.to_owned())
    }
}

/// Without a path it is that of every program here.
fn page(text: &str) -> Result<String, String> {
    let wanted = || "a page's URL begins with http:// or https://".to_owned();
    let mut url = reqwest::Url::parse(text).map_err(|_| wanted())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wanted());
    }
    if url.path() == "/" {
        url.set_path("/metrics");
    }
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_metrics_unless_another_is_named() {
        assert_eq!(
            page("http://h:9090").as_deref(),
            Ok("http://h:9090/metrics")
        );
        assert_eq!(page("https://h/m?x=1").as_deref(), Ok("https://h/m?x=1"));
        for bad in ["h:9090", "ftp://h", ""] {
            assert!(page(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn looks_are_neither_a_load_nor_a_memory() {
        assert_eq!(pause("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["1", "99ms", "61s", "-1s", "soon"] {
            assert!(pause(bad).is_err(), "{bad}");
        }
    }
}
