//! `storyfleet bench --gateway`: what a reader costs and how late they read, on the machine at hand, beside a bare server
//! of the same transport. Servers and Redis are processes of their own; this one is all the readers and the worker.

mod bare;
pub(super) mod client;
mod fanout;
mod first;
mod handshake;
mod herd;
mod idle;
pub(crate) mod node;
mod outage;
mod reader;
mod report;
mod resume;
mod screen;
mod stage;
mod teller;
pub(super) mod token;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use agent::Shutdown;
use clap::ValueEnum;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::report::{Group, Report};
use self::stage::Stage;
use crate::args::Part;
use crate::bench::{show, unless};
use crate::output::{Output, note};

/// Files of this process that are no reader's.
const SPARE: u64 = 1_000;

/// How much is measured.
struct Plan {
    idle: idle::Plan,
    fanout: fanout::Plan,
    handshakes: usize,
    resume: resume::Plan,
    herd: herd::Plan,
    /// Answered by a worker.
    actions: usize,
}

pub(crate) async fn run(only: Option<Part>, quick: bool, out: Output) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        note("bench: this is a debug build: `make bench-gateway` measures a release build");
    }
    let asked = Shutdown::on_signals(&TaskTracker::new())?;
    let mut stage = Stage::new().await?;
    let measured = unless(&asked, measure(&mut stage, only, quick)).await;
    stage.end().await?;
    let report = measured?;
    show(out, &report, Report::text)
}

impl Plan {
    fn new(quick: bool, files: u64) -> Self {
        // Each server's readers are open in this process at the same time.
        let most = usize::try_from(files.saturating_sub(SPARE) / 2).unwrap_or(usize::MAX);
        let all = |full: usize, some: usize| if quick { some } else { full }.min(most);
        let long = |full: u64, some: u64| Duration::from_secs(if quick { some } else { full });
        Self {
            idle: idle::Plan {
                connections: all(8_000, 400),
                time: long(30, 2),
            },
            fanout: fanout::Plan {
                stories: all(100, 10),
                readers: 10,
                time: long(8, 1),
            },
            handshakes: all(3_000, 300),
            resume: resume::Plan {
                stories: all(20, 4),
                cuts: all(10, 2),
            },
            herd: herd::Plan {
                readers: all(5_000, 200),
                stories: all(100, 10),
            },
            actions: all(200, 20),
        }
    }
}

async fn measure(stage: &mut Stage, only: Option<Part>, quick: bool) -> anyhow::Result<Report> {
    let (plan, begin) = (Plan::new(quick, stage.files), Instant::now());
    let parts = Part::value_variants().iter().copied();
    let mut groups = Vec::<Group>::new();
    for part in parts.filter(|part| only.is_none_or(|only| only == *part)) {
        let time = begin.elapsed().as_secs_f64();
        note(&format!("bench: {time:.0} s: {}", name(part)));
        groups.extend(match part {
            Part::Idle => idle::measure(stage, plan.idle).await?,
            Part::FanOut => fanout::measure(stage, plan.fanout).await?,
            Part::Handshakes => handshake::measure(stage, plan.handshakes).await?,
            Part::Resume => resume::measure(stage, plan.resume).await?,
            Part::Herd => herd::measure(stage, plan.herd).await?,
            Part::Outage => outage::measure(stage).await?,
            Part::First => first::measure(stage, plan.actions).await?,
        });
    }
    Ok(Report {
        groups,
        cpus: std::thread::available_parallelism()?.get(),
        seconds: begin.elapsed().as_secs_f64(),
    })
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Idle => "thousands of idle readers",
        Part::FanOut => "fan-out",
        Part::Handshakes => "handshakes",
        Part::Resume => "readers cut off and back",
        Part::Herd => "all readers dropped at once",
        Part::Outage => "Redis away",
        Part::First => "first characters of answers",
    }
}
