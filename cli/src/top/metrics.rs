//! Pages of metrics in Prometheus's text format, and quantiles of their histograms. Strict: a page with a line that is none
//! is no page of metrics. Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

/// A line is not one of the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not one of Prometheus's text format")]
pub(crate) struct Malformed(usize);

/// The samples of the fleet that a page has; those of others are left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Scrape(Vec<Sample>);

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// How many observations were at most so many seconds, by that bound; the last bound is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Histogram(Vec<(f64, f64)>);

impl Scrape {
    pub(crate) fn read(text: &str) -> Result<Self, Malformed> {
        let mut samples = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let sample = sample(line).ok_or(Malformed(at + 1))?;
            if sample.name.starts_with("storyfleet_") {
                samples.push(sample);
            }
        }
        Ok(Self(samples))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// All samples of that name which have the label, with its value.
    pub(crate) fn by<'a>(
        &'a self,
        name: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> {
        let named = self.0.iter().filter(move |sample| sample.name == name);
        named.filter_map(move |sample| Some((sample.label(label)?, sample.value)))
    }

    /// The histogram of that name for an agent; `None` where the page has none.
    pub(crate) fn histogram(&self, name: &str, agent: &str) -> Option<Histogram> {
        let bucket = format!("{name}_bucket");
        let mine = |sample: &&Sample| sample.name == bucket && sample.label("agent") == Some(agent);
        let bounds = self.0.iter().filter(mine).filter_map(|sample| {
            let bound = number(sample.label("le")?)?;
            Some((bound, sample.value))
        });
        let mut bounds: Vec<_> = bounds.collect();
        bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!bounds.is_empty()).then_some(Histogram(bounds))
    }
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        let mut found = self.labels.iter().filter(|(label, _)| label == name);
        Some(found.next()?.1.as_str())
    }
}

impl Histogram {
    pub(crate) fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// What came since `earlier`: all of it when the process was started anew, or its buckets are others.
    pub(crate) fn since(&self, earlier: Option<&Self>) -> Self {
        let same = |earlier: &&Self| {
            earlier.0.len() == self.0.len()
                && earlier
                    .0
                    .iter()
                    .zip(&self.0)
                    .all(|(was, is)| was.0 == is.0 && was.1 <= is.1)
        };
        let Some(earlier) = earlier.filter(same) else {
            return self.clone();
        };
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|(is, was)| (is.0, is.1 - was.1)).collect())
    }

    /// Adds those of another process; with other buckets it is left out.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        let same = self.0.len() == other.0.len();
        if same && self.0.iter().zip(&other.0).all(|(a, b)| a.0 == b.0) {
            for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
                mine.1 += theirs.1;
            }
        }
    }

    /// In seconds, as `histogram_quantile` of Prometheus has it: even within a bucket, and of what is beyond the last bound
    /// that bound. `None` without observations.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count();
        if self.count() <= 0.0 {
            return None;
        }
        let at = self.0.iter().position(|(_, count)| *count >= rank)?;
        let (bound, count) = self.0[at];
        let (below, before) = at.checked_sub(1).map_or((0.0, 0.0), |at| self.0[at]);
        if bound.is_infinite() {
            return Some(below);
        }
        let share = (rank - before) / (count - before).max(f64::MIN_POSITIVE);
        Some(below + (bound - below) * share.clamp(0.0, 1.0))
    }
}

/// `name{label="value",…} value [time]`
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':')))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let value = number(words.next()?)?;
    let time = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
    (time && words.next().is_none()).then(|| Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Names with values, and what follows the bracket that closes them.
type Labels<'a> = (Vec<(String, String)>, &'a str);

fn labels(mut rest: &str) -> Option<Labels<'_>> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// The text up to the quote that ends it, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other @ ('\\' | '"') => other,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        other => other.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# HELP storyfleet_turn_seconds From delivery to its end.
# TYPE storyfleet_turn_seconds histogram
storyfleet_turn_seconds_bucket{agent="narrator",le="1"} 50
storyfleet_turn_seconds_bucket{agent="narrator",le="2.5"} 98
storyfleet_turn_seconds_bucket{agent="narrator",le="+Inf"} 100
storyfleet_turn_seconds_sum{agent="narrator"} 120.5
storyfleet_gateway_connections{transport="sse",} 7 1700000000000
go_threads 9
"#;

    #[test]
    fn a_page_is_read_and_a_quantile_is_prometheus_own() {
        let page = Scrape::read(PAGE).unwrap();
        let connections: Vec<_> = page
            .by("storyfleet_gateway_connections", "transport")
            .collect();
        assert_eq!(connections, [("sse", 7.0)]);
        let turns = page
            .histogram("storyfleet_turn_seconds", "narrator")
            .unwrap();
        assert_eq!(turns.quantile(0.5), Some(1.0));
        assert_eq!(turns.quantile(0.74), Some(1.75));
        assert_eq!(turns.quantile(0.99), Some(2.5));
        assert!(
            page.histogram("storyfleet_turn_seconds", "dialogue")
                .is_none()
        );
    }

    #[test]
    fn what_came_since_is_told_and_a_restart_counts_from_nothing() {
        let histogram = |low, all| Histogram(vec![(1.0, low), (f64::INFINITY, all)]);
        assert_eq!(
            histogram(5.0, 9.0).since(Some(&histogram(2.0, 4.0))),
            histogram(3.0, 5.0)
        );
        assert_eq!(
            histogram(1.0, 2.0).since(Some(&histogram(2.0, 4.0))),
            histogram(1.0, 2.0)
        );
        assert_eq!(histogram(0.0, 0.0).quantile(0.5), None);
        let mut both = Histogram::default();
        both.add(&histogram(1.0, 2.0));
        both.add(&histogram(1.0, 3.0));
        assert_eq!(both, histogram(2.0, 5.0));
    }

    #[test]
    fn a_value_may_have_any_text_and_no_other_line_is_taken() {
        let page = Scrape::read("storyfleet_x{a=\"b\\\"}\\n\\\\\", c=\"d\"} 1").unwrap();
        assert_eq!(page.by("storyfleet_x", "a").next(), Some(("b\"}\n\\", 1.0)));
        for bad in [
            "<html>",
            "storyfleet_x",
            "storyfleet_x one",
            "storyfleet_x 1 2 3",
            "storyfleet_x{a=\"b} 1",
            "storyfleet_x{a=\"b\" c=\"d\"} 1",
            "storyfleet_x{a=\"\\t\"} 1",
            "1x 2",
        ] {
            assert_eq!(Scrape::read(bad), Err(Malformed(1)), "{bad}");
        }
    }
}
