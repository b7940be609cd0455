//! `storyfleet simulate-scale`: a day's load played through the work stream, workers, KEDA and the autoscaler of Kubernetes,
//! to see what a ScaledObject or another signal would do. Nothing real is touched; the same options give the same figures.
//!
//! Left out: a narrator's turn takes in what is parked behind it, here each event has a turn of its own; failures; nodes that
//! are full.

mod control;
mod fleet;
mod hpa;
mod keda;
mod load;
mod report;
mod stream;
mod tally;
#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use agent::exit;
use anyhow::anyhow;
use clap::ValueEnum;
use serde_json::json;

use self::fleet::Settings;
use self::keda::Scaler;
use self::load::Load;
use crate::args::{ScaleArgs, Signal};
use crate::output::Output;

pub(crate) fn run(args: &ScaleArgs, out: Output) -> anyhow::Result<ExitCode> {
    let (load, settings) = read(args).map_err(exit::configuration)?;
    let mut summaries = Vec::new();
    let alone = args.signal.len() == 1;
    for signal in &args.signal {
        let settings = Settings {
            signal: *signal,
            ..settings.clone()
        };
        let tally = fleet::play(&load, &settings);
        let summary = report::summary(name(*signal), &tally);
        let hours = report::hours(&load, &tally);
        if out.json {
            out.value(&json!({"summary": summary, "hours": hours}))?;
        } else if alone {
            out.line(&report::chart(&hours))?;
        }
        summaries.push(summary);
    }
    if !out.json {
        out.text(&report::table(&summaries))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &ScaleArgs) -> anyhow::Result<(Load, Settings)> {
    if args.call_p99 < args.call_p50 {
        return Err(anyhow!("--call-p99 is at least --call-p50"));
    }
    let load = match &args.load {
        Some(file) => Load::of_file(file)?,
        None => Load::day()?,
    };
    let scaler = match &args.scaled_object {
        Some(file) => Scaler::of_file(file)?,
        None => Scaler::of(args.agent)?,
    };
    let settings = Settings {
        scaler,
        signal: Signal::Work,
        seed: args.seed,
        stories: args.stories.get(),
        concurrency: args.concurrency.get(),
        call_p50: millis(args.call_p50),
        call_p99: millis(args.call_p99),
        pod_start: millis(args.pod_start),
        drain: millis(args.drain),
        cpu_per_event: u64::try_from(args.cpu_per_event.as_micros())?,
    };
    Ok((load, settings))
}

/// As it is written on the command line.
fn name(signal: Signal) -> String {
    let value = signal.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
