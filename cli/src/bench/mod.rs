//! `storyfleet bench --floor`: what a worker's guarantees cost, on the machine at hand. It starts everything that it
//! needs and measures both sides in turns, so that what disturbs the machine disturbs both.

mod backlog;
pub(crate) mod bare;
mod context;
pub(crate) mod edge;
mod fleet;
mod latency;
mod load;
mod process;
mod report;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use agent::Shutdown;
use serde::Serialize;
use tokio_util::task::TaskTracker;

use self::backlog::{Backlog, Worked};
use self::latency::Waits;
use self::report::{Inflight, Latency, Memory, Recording, Report, Sides, Speed, median};
use self::stage::{Model, Pace, Side, Stage};
use crate::args::BenchArgs;
use crate::output::{Output, note};

/// Of both sides at full speed: a worker's default.
const CONCURRENCY: usize = 64;

/// Turns of a young story, whose history is short: the bare loop reads none.
const YOUNG: usize = 3;

/// Turns of a story whose history is as long as a prompt takes it.
const LONG: usize = 30;

const INSTANT: Pace = Pace {
    first: Duration::ZERO,
    between: Duration::ZERO,
};

/// Words come one by one, so that they are drafted and shown one by one.
const STREAMED: Pace = Pace {
    first: Duration::ZERO,
    between: Duration::from_millis(4),
};

const IN_FLIGHT: usize = 1_000;
const CALL: Pace = Pace {
    first: Duration::from_millis(200),
    between: Duration::ZERO,
};

/// How much is measured.
struct Plan {
    rounds: usize,
    /// Of a round at full speed.
    events: usize,
    /// Of a round at 200/s.
    paced: usize,
    /// Of the round with 1,000 in flight.
    in_flight: usize,
}

pub(crate) async fn run(args: BenchArgs, out: Output) -> anyhow::Result<ExitCode> {
    if args.what.gateway {
        return edge::run(args.only, args.quick, out).await;
    }
    if args.what.context {
        return context::run(&args, out);
    }
    if args.what.fleet {
        return fleet::run(&args, out).await;
    }
    if cfg!(debug_assertions) {
        note("bench: this is a debug build: `make bench` measures a release build");
    }
    let plan = Plan::of(&args);
    let asked = Shutdown::on_signals(&TaskTracker::new())?;
    let mut stage = Stage::new().await?;
    let measured = unless(&asked, measure(&mut stage, &plan)).await;
    stage.end().await?;
    let report = measured?;
    show(out, &report, Report::text)
}

/// What is measured, unless the bench is asked to end first: dropping it ends the processes that it started.
async fn unless<T>(
    asked: &Shutdown,
    measured: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        measured = measured => measured,
        () = asked.drain.cancelled() => Err(anyhow::anyhow!("asked to end before all was measured")),
    }
}

fn show<R: Serialize>(
    out: Output,
    report: &R,
    text: impl Fn(&R) -> String,
) -> anyhow::Result<ExitCode> {
    if out.json {
        out.value(report)?;
    } else {
        out.line(&text(report))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Plan {
    fn of(args: &BenchArgs) -> Self {
        if args.quick {
            return Self {
                rounds: 1,
                events: 400,
                paced: 200,
                in_flight: 3_000,
            };
        }
        Self {
            rounds: args.rounds.get(),
            events: args.events.try_into().unwrap_or(usize::MAX),
            paced: 1_000,
            in_flight: 15_000,
        }
    }
}

/// For one worker.
fn backlog(events: usize, turns: usize) -> Backlog {
    Backlog {
        events,
        stories: events.div_ceil(turns),
        concurrency: CONCURRENCY,
        processes: 1,
    }
}

async fn measure(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Report> {
    let (young, long) = (backlog(plan.events, YOUNG), backlog(plan.events, LONG));
    let short = backlog(plan.events.div_ceil(4), YOUNG);
    let calls = Backlog {
        events: plan.in_flight,
        stories: 2 * IN_FLIGHT,
        concurrency: IN_FLIGHT,
        ..young
    };

    let model = stage.model(INSTANT).await?;
    let speed = compare(stage, &model, "young stories", young, plan.rounds).await?;
    let waits = at_a_pace(stage, &model, plan).await?;
    let grown = compare(stage, &model, "long stories", long, plan.rounds).await?;
    let recording = [
        records(
            stage,
            &model,
            "recordings, young stories",
            young,
            plan.rounds,
        )
        .await?,
        records(stage, &model, "recordings, long stories", long, plan.rounds).await?,
    ];
    model.process.end().await?;
    let model = stage.model(STREAMED).await?;
    let streamed = compare(stage, &model, "words one by one", short, plan.rounds).await?;
    model.process.end().await?;
    let model = stage.model(CALL).await?;
    let calls = compare(stage, &model, "1,000 calls of 200 ms", calls, 1).await?;
    model.process.end().await?;

    let inflight = inflight(&calls);
    let rss_mb = memory(&waits.fleet, &speed.fleet, &calls.fleet);
    let speed = speeds(&speed);
    let mut report = Report {
        ratio: speed.fleet.events_per_s / speed.floor.events_per_s,
        latency_ms: Sides {
            floor: Latency::of(&waits.floor),
            fleet: Latency::of(&waits.fleet),
        },
        context_ms: median(waits.fleet.iter().filter_map(|round| round.context_ms)),
        cpu_s_per_1000: speed.fleet.cpu_s_per_1000,
        speed,
        long: speeds(&grown),
        streamed: speeds(&streamed),
        recording,
        rss_mb,
        inflight_ratio: inflight.fleet_per_s / inflight.ideal_per_s,
        inflight,
        targets: Vec::new(),
        rounds: plan.rounds,
        events: plan.events,
        cpus: std::thread::available_parallelism()?.get(),
    };
    report.judge();
    Ok(report)
}

fn memory(waits: &[Waits], speed: &[Worked], calls: &[Worked]) -> Memory {
    let idle = |at: usize| median(waits.iter().map(|round| round.idle_mb[at]));
    let peak = |rounds: &[Worked]| {
        let peaks = rounds.iter().map(|round| round.peak_mb);
        peaks.fold(0.0, f64::max)
    };
    Memory {
        idle: idle(0),
        rested: idle(1),
        peak: peak(speed),
        inflight_1000: peak(calls),
    }
}

fn inflight(rounds: &Sides<Vec<Worked>>) -> Inflight {
    let in_hand = |rounds: &[Worked]| median(rounds.iter().map(|round| round.in_flight));
    let rates = speeds(rounds);
    Inflight {
        ideal_per_s: IN_FLIGHT as f64 / CALL.first.as_secs_f64(),
        floor_per_s: rates.floor.events_per_s,
        fleet_per_s: rates.fleet.events_per_s,
        floor_mean: in_hand(&rounds.floor),
        fleet_mean: in_hand(&rounds.fleet),
    }
}

fn speeds(rounds: &Sides<Vec<Worked>>) -> Sides<Speed> {
    Sides {
        floor: Speed::of(&rounds.floor),
        fleet: Speed::of(&rounds.fleet),
    }
}

/// Both sides work off the same backlog, in turns, the one that begins changing: what comes and goes on the machine hits
/// both.
async fn compare(
    stage: &mut Stage,
    model: &Model,
    name: &str,
    backlog: Backlog,
    rounds: usize,
) -> anyhow::Result<Sides<Vec<Worked>>> {
    note(&format!("bench: {name}: warming up"));
    warm_up(stage, model, backlog).await?;
    let mut done = Sides::<Vec<_>>::default();
    for round in 0..rounds {
        for side in order(round) {
            let worked = backlog::work(stage, side, model, backlog).await?;
            done.of(side).push(worked);
        }
        let last = |side: &[Worked]| side.last().map_or(0.0, |worked| worked.events_per_s);
        note(&format!(
            "bench: {name}, round {}: bare {:.0} events/s, worker {:.0}",
            round + 1,
            last(&done.floor),
            last(&done.fleet)
        ));
    }
    Ok(done)
}

/// A worker that records its turns, and one that does not, in turns.
async fn records(
    stage: &mut Stage,
    model: &Model,
    name: &str,
    backlog: Backlog,
    rounds: usize,
) -> anyhow::Result<Recording> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        // Off, on, on, off …
        stage.records = round % 4 == 1 || round % 4 == 2;
        let worked = backlog::work(stage, Side::Fleet, model, backlog).await?;
        note(&format!(
            "bench: {name}, {}: {:.0} events/s",
            if stage.records { "on" } else { "off" },
            worked.events_per_s
        ));
        let side = if stage.records {
            &mut with
        } else {
            &mut without
        };
        side.push(worked);
    }
    stage.records = true;
    Ok(Recording::of(&without, &with))
}

/// Nothing of it counts, but that it shows how long prompts are: the floor's are made as long.
async fn warm_up(stage: &mut Stage, model: &Model, backlog: Backlog) -> anyhow::Result<()> {
    let backlog = Backlog {
        events: backlog.events.div_ceil(4).max(2 * backlog.concurrency),
        stories: backlog.stories.div_ceil(4),
        ..backlog
    };
    stage.padding = 0;
    let floor = backlog::work(stage, Side::Floor, model, backlog).await?;
    let fleet = backlog::work(stage, Side::Fleet, model, backlog).await?;
    stage.padding = (fleet.prompt - floor.prompt).max(0.0).round() as usize;
    Ok(())
}

async fn at_a_pace(
    stage: &mut Stage,
    model: &Model,
    plan: &Plan,
) -> anyhow::Result<Sides<Vec<Waits>>> {
    let mut done = Sides::<Vec<_>>::default();
    for round in 0..plan.rounds {
        note(&format!("bench: 200 events/s, round {}", round + 1));
        for side in order(round) {
            let waits = latency::measure(stage, side, model, plan.paced).await?;
            done.of(side).push(waits);
        }
    }
    Ok(done)
}

fn order(round: usize) -> [Side; 2] {
    match round % 2 {
        0 => [Side::Floor, Side::Fleet],
        _ => [Side::Fleet, Side::Floor],
    }
}
