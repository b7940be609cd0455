//! What `replay` is told on its command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};
use story::StoryId;

use crate::cli::Provider;
use crate::exit;
use crate::flags::{Logs, Redis};

/// Most turns that are gone through at once: each holds its recording.
const AT_ONCE: u64 = 256;

#[derive(Debug, Args)]
pub(crate) struct Replay<O: Args> {
    /// Go through the turns of this story that are recorded in Redis
    #[arg(long, value_name = "ID", required_unless_present = "from_file")]
    pub(super) story: Option<StoryId>,
    /// Go through the turns in a file that `storyfleet export` wrote; Redis is not needed
    #[arg(long, value_name = "FILE", conflicts_with = "story")]
    pub(super) from_file: Option<PathBuf>,
    /// Only those whose answer has this place in the log, or a later one
    #[arg(long, value_name = "SEQ")]
    pub(super) from: Option<u64>,
    /// Only those whose answer has this place in the log, or an earlier one
    #[arg(long, value_name = "SEQ")]
    pub(super) to: Option<u64>,
    /// What answers: the recording; a mock model; live, a model at LLM_URL; or a model's base URL
    #[arg(
        long,
        value_name = "recorded|mock|live|URL",
        default_value = "recorded"
    )]
    pub(super) llm: Llm,
    /// Where live is
    #[arg(long, env = "LLM_URL", hide_env_values = true, value_name = "URL")]
    llm_url: Option<String>,
    /// Another model than the recorded one
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// A folder whose <agent>/*.md replace the embedded prompts
    #[arg(long, env = "STORYFLEET_PROMPTS", value_name = "DIR")]
    pub(super) prompts: Option<PathBuf>,
    /// How many times as fast as it went the recording answers; 0 = at once
    #[arg(long, value_name = "N", default_value = "0", value_parser = speed)]
    pub(super) speed: f64,
    /// How differences are told: to people, or one JSON value a turn to programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) diff: Format,
    /// A folder for what came of each turn this time, one file each
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Tell what came of the turns as a new story of this name: the log up to the first of them, then each event and its
    /// answer anew. Never into a story that is there, and without what was taken back or has no answer there
    #[arg(long, value_name = "ID")]
    pub(super) publish_to: Option<StoryId>,
    /// Take what came of the turns this time for the recording: the file is written anew, and a difference is no failure
    #[arg(long, requires = "from_file", conflicts_with_all = ["publish_to", "story"])]
    pub(super) accept: bool,
    /// Turns gone through at the same time
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u64).range(1..=AT_ONCE))]
    pub(super) concurrency: u64,
    /// Most tokens that a model may be asked for: what the turns cost when they were recorded must not be more
    #[arg(long, value_name = "TOKENS", default_value_t = 200_000)]
    pub(super) budget: u64,
    /// Have a model say which of the two answers is better, for each turn whose answer is another one
    #[arg(long)]
    pub(super) judge: bool,
    /// The judge's model [default: the one that answers]
    #[arg(long, value_name = "NAME", requires = "judge")]
    pub(super) judge_model: Option<String>,
    #[command(flatten)]
    pub(super) provider: Provider,
    #[command(flatten)]
    pub(super) redis: Redis,
    #[command(flatten)]
    logs: Logs,
    /// Where they are given, they count in place of the recorded ones.
    #[command(flatten)]
    pub(super) own: O,
}

/// What answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Llm {
    Recorded,
    Mock,
    /// At `--llm-url`.
    Live,
    At(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

impl FromStr for Llm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "recorded" => Ok(Self::Recorded),
            "mock" => Ok(Self::Mock),
            "live" => Ok(Self::Live),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Self::At(url.to_owned()))
            }
            _ => {
                Err("write recorded, mock, live, or a URL like http://127.0.0.1:8080/v1".to_owned())
            }
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    let within = speed == 0.0 || (0.01..=1_000_000.0).contains(&speed);
    within
        .then_some(speed)
        .ok_or_else(|| "write 0, or a number from 0.01 to 1000000".to_owned())
}

impl<O: Args + Serialize> Replay<O> {
    pub(crate) fn logs(&self) -> anyhow::Result<()> {
        self.logs.start()
    }

    /// Whether only a part of the log is asked for, and which.
    pub(super) fn places(&self) -> Option<std::ops::RangeInclusive<u64>> {
        let asked = self.from.is_some() || self.to.is_some();
        asked.then(|| self.from.unwrap_or(0)..=self.to.unwrap_or(u64::MAX))
    }

    /// # Errors
    /// When no place is from the one to the other.
    pub(super) fn checked(&self) -> anyhow::Result<()> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from > to => Err(exit::configuration(anyhow::anyhow!(
                "--from {from} is behind --to {to}: there is nothing between them"
            ))),
            _ => Ok(()),
        }
    }

    /// Where the model is that answers; none, where the recording does.
    pub(super) fn url(&self) -> anyhow::Result<Option<String>> {
        match (&self.llm, &self.llm_url) {
            (Llm::Recorded | Llm::Mock, _) => Ok(None),
            (Llm::At(url), _) => Ok(Some(url.clone())),
            (Llm::Live, Some(url)) => Ok(Some(url.clone())),
            (Llm::Live, None) => Err(exit::configuration(anyhow::anyhow!(
                "--llm live needs the model's base URL: set LLM_URL, or write the URL in place of live"
            ))),
        }
    }

    /// The agent's own options of these names, which were given.
    pub(super) fn changed(&self, given: &[String]) -> anyhow::Result<Map<String, Value>> {
        match serde_json::to_value(&self.own).context("the options cannot be written")? {
            Value::Object(all) => Ok(all
                .into_iter()
                .filter(|(name, _)| given.contains(name))
                .collect()),
            Value::Null => Ok(Map::new()),
            other => bail!("an agent's options are {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_one_of_four() {
        assert_eq!("mock".parse(), Ok(Llm::Mock));
        assert_eq!("http://h/v1".parse(), Ok(Llm::At("http://h/v1".to_owned())));
        assert!("gpt".parse::<Llm>().unwrap_err().contains("recorded, mock"));
    }

    #[test]
    fn a_speed_is_a_number_that_is_not_negative() {
        assert_eq!(speed("0.5"), Ok(0.5));
        assert_eq!((speed("0"), speed("0.01")), (Ok(0.0), Ok(0.01)));
        for bad in ["-1", "NaN", "inf", "fast", "1000001", "0.009", "1e-30"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }
}
