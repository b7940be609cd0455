//! `storyfleet costs`: what answers cost, as they themselves say.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::process::ExitCode;
use std::time::Duration;

use bus::{Bus, Error};
use futures::TryStreamExt;
use jiff::tz::TimeZone;
use serde::Serialize;
use story::{Event, LlmReport, Payload, StoryId};
use tokio::time::Instant;

use crate::args::{By, CostsArgs};
use crate::output::{Output, note, one_line};

/// Between two notes of how far it is.
const EVERY: Duration = Duration::from_secs(10);

/// What some answers took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Sum {
    answers: u64,
    /// Of them, those that say no cost: where the model said what it used, that is in the tokens.
    unpriced: u64,
    tokens_in: u64,
    tokens_cached: u64,
    tokens_out: u64,
    /// In the currency of the prices.
    cost: f64,
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    key: BTreeMap<&'a str, &'a str>,
    #[serde(flatten)]
    sum: Sum,
}

impl From<&LlmReport> for Sum {
    fn from(report: &LlmReport) -> Self {
        Self {
            answers: 1,
            unpriced: report.cost.is_none().into(),
            tokens_in: report.tokens_in,
            tokens_cached: report.tokens_cached,
            tokens_out: report.tokens_out,
            cost: report.cost.unwrap_or_default(),
        }
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, more: Self) {
        self.answers += more.answers;
        self.unpriced += more.unpriced;
        self.tokens_in += more.tokens_in;
        self.tokens_cached += more.tokens_cached;
        self.tokens_out += more.tokens_out;
        self.cost += more.cost;
    }
}

pub(crate) async fn run(args: &CostsArgs, bus: &Bus, out: Output) -> anyhow::Result<ExitCode> {
    let stories = match &args.story {
        Some(story) => vec![story.clone()],
        None => bus.stories().await?,
    };
    let (mut sums, mut unreadable) = (BTreeMap::new(), 0);
    let mut told = Instant::now();
    for (number, story) in stories.iter().enumerate() {
        if told.elapsed() >= EVERY {
            note(&format!("read {number} of {} stories", stories.len()));
            told = Instant::now();
        }
        match read(story, args, bus, &mut sums).await {
            // Nobody hides the others' costs.
            Err(error) if args.story.is_none() && error.is_of_the_data() => {
                unreadable += 1;
                note(&format!("{story} cannot be read: {error}"));
            }
            read => read?,
        }
    }
    tell(&sums, args.by(), out)?;
    Ok(match unreadable {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Adds what a story's answers took. A story that has an answer which cannot be read adds nothing.
async fn read(
    story: &StoryId,
    args: &CostsArgs,
    bus: &Bus,
    sums: &mut BTreeMap<String, Sum>,
) -> Result<(), Error> {
    let mut own = BTreeMap::<String, Sum>::new();
    let mut log = Box::pin(bus.whole_log(story));
    while let Some(entry) = log.try_next().await? {
        let event = entry.event;
        let Some(report) = report(&event) else {
            continue;
        };
        let day = TimeZone::UTC.to_datetime(event.at).date();
        if args.day.is_some_and(|wanted| wanted != day) {
            continue;
        }
        let key = match args.by() {
            By::Day => day.to_string(),
            By::Story => story.to_string(),
            By::Agent => event.author.id.clone(),
            By::Model => report.model.clone(),
        };
        *own.entry(key).or_default() += Sum::from(report);
    }
    for (key, sum) in own {
        *sums.entry(key).or_default() += sum;
    }
    Ok(())
}

fn report(event: &Event) -> Option<&LlmReport> {
    match event.payload() {
        Payload::Narration(narration) => narration.llm.as_ref(),
        Payload::Dialogue(dialogue) => dialogue.llm.as_ref(),
        _ => None,
    }
}

fn tell(sums: &BTreeMap<String, Sum>, by: By, out: Output) -> anyhow::Result<()> {
    let name = match by {
        By::Day => "day",
        By::Story => "story",
        By::Agent => "agent",
        By::Model => "model",
    };
    let mut total = Sum::default();
    for sum in sums.values() {
        total += *sum;
    }
    if out.json {
        for (key, sum) in sums {
            let key = BTreeMap::from([(name, key.as_str())]);
            out.value(&Row { key, sum: *sum })?;
        }
        return out.value(&serde_json::json!({ "total": total }));
    }
    out.text(&table(name, sums, &total))?;
    if total.unpriced > 0 {
        note(&format!(
            "answers that are not in the cost: {}. They ended before the model said what it used, or --models FILE of their agent had no price for it (docs/models.md)",
            total.unpriced
        ));
    }
    Ok(())
}

fn table(name: &str, sums: &BTreeMap<String, Sum>, total: &Sum) -> String {
    let cells = |key: String, sum: &Sum| {
        [
            key,
            sum.answers.to_string(),
            sum.tokens_in.to_string(),
            sum.tokens_cached.to_string(),
            sum.tokens_out.to_string(),
            match sum.answers > 0 && sum.unpriced == sum.answers {
                true => "-".to_owned(),
                false => format!("{:.6}", sum.cost),
            },
        ]
    };
    let head = ["answers", "tokens in", "cached", "tokens out", "cost"];
    let head = [[name].as_slice(), &head].concat();
    let mut rows = vec![std::array::from_fn(|at| head[at].to_owned())];
    rows.extend(sums.iter().map(|(key, sum)| cells(one_line(key), sum)));
    rows.push(cells("total".to_owned(), total));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|at| width(at).unwrap_or_default());
    let line = |row: &[String; 6]| {
        let [key, numbers @ ..] = row;
        let numbers = numbers.iter().zip(&widths[1..]);
        let numbers = numbers.map(|(number, width)| format!("  {number:>width$}"));
        format!("{key:<0$}{1}\n", widths[0], numbers.collect::<String>())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned_and_ends_with_the_sum() {
        let report = LlmReport {
            tokens_in: 1_200,
            tokens_cached: 800,
            tokens_out: 90,
            cost: Some(0.000_25),
            ..LlmReport::default()
        };
        let one = Sum::from(&report);
        let mut two = one;
        two += Sum::from(&LlmReport {
            cost: None,
            ..report
        });
        let mut total = one;
        total += two;
        let sums = BTreeMap::from([
            ("castle".to_owned(), one),
            ("m\x1b[2Jine\nx".to_owned(), two),
        ]);
        let expected = "\
story      answers  tokens in  cached  tokens out      cost
castle           1       1200     800          90  0.000250
m[2Jine x        2       2400    1600         180  0.000250
total            3       3600    2400         270  0.000500
";
        assert_eq!(table("story", &sums, &total), expected);
        assert_eq!(total.unpriced, 1);
    }
}
