//! `storyfleet simulate-scale`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ::story::Agent;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// What is counted. Several, as `work,lag,pending,cpu`, are compared on the same load
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "work",
        value_name = "SIGNAL"
    )]
    pub(crate) signal: Vec<Signal>,

    /// Whose ScaledObject of deploy/k8s/components/keda it is
    #[arg(long, default_value = "narrator", value_name = "AGENT")]
    pub(crate) agent: Agent,
    /// Another ScaledObject than that
    #[arg(long, value_name = "FILE")]
    pub(crate) scaled_object: Option<PathBuf>,

    /// The load: CSV of `minute,events`, from minute 0 on [default: a day with an evening and two rushes]
    #[arg(long, value_name = "FILE")]
    pub(crate) load: Option<PathBuf>,
    /// When within a minute events come, of which story, and how long their calls take
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) seed: u64,
    /// Stories that events are spread over: one story's turn at a time
    #[arg(long, default_value = "20000", value_name = "N")]
    pub(crate) stories: NonZeroU32,

    /// How many events a worker answers at once
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) concurrency: NonZeroU32,
    /// Half of all calls take no longer
    #[arg(long, default_value = "8s", value_name = "TIME", value_parser = time)]
    pub(crate) call_p50: Duration,
    /// 99 of 100 calls take no longer
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    pub(crate) call_p99: Duration,
    /// From the decision for a worker to its first event
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = time)]
    pub(crate) pod_start: Duration,
    /// How long a worker that is sent away finishes what it holds; the rest is given back
    #[arg(long, default_value = "45s", value_name = "TIME", value_parser = time)]
    pub(crate) drain: Duration,
    /// CPU of one event, for `--signal cpu`
    #[arg(long, default_value = "5ms", value_name = "TIME", value_parser = time)]
    pub(crate) cpu_per_event: Duration,
}

/// What the autoscaler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Signal {
    /// Entries of the work stream: waiting and in flight (XLEN)
    Work,
    /// What no worker has read yet (XINFO GROUPS); nil, which is told as 0, while Redis cannot know it
    Lag,
    /// What workers hold (XPENDING)
    Pending,
    /// Use of CPU: 70 % of what a pod requests, 100m
    Cpu,
}

fn time(text: &str) -> Result<Duration, String> {
    let wanted = "write it like 500ms, 8s or 2m: at least 1ms, at most 1h";
    let span: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    let time = Duration::try_from(span).map_err(|_| wanted.to_owned())?;
    if (Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(&time) {
        Ok(time)
    } else {
        Err(wanted.to_owned())
    }
}
