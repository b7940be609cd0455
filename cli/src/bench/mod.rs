//! `storyfleet bench --floor`: what a worker's guarantees cost, on the machine at hand. It starts everything that it
//! needs and measures both sides in turns, so that what disturbs the machine disturbs both.

mod backlog;
pub(crate) mod bare;
mod latency;
mod load;
mod process;
mod report;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use self::backlog::{Backlog, Worked};
use self::latency::Waits;
use self::report::{Inflight, Latency, Memory, Report, Sides, Speed, median};
use self::stage::{Model, Side, Stage};
use crate::args::BenchArgs;
use crate::output::{Output, note};

/// Of both sides at full speed: a worker's default.
const CONCURRENCY: usize = 64;

/// Many, so that no lane makes an event wait; a few turns each, since to read and render a long history is no guarantee,
/// and nothing that the bare loop does.
const STORIES: usize = 2_000;

const IN_FLIGHT: usize = 1_000;
const CALL: Duration = Duration::from_millis(200);

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
    if cfg!(debug_assertions) {
        note("bench: this is a debug build: `make bench` measures a release build");
    }
    let plan = Plan::of(&args);
    let mut stage = Stage::new().await?;
    let measured = measure(&mut stage, &plan).await;
    stage.end().await?;
    let report = measured?;
    if out.json {
        out.value(&report)?;
    } else {
        out.line(&report.text())?;
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
            events: args.events.get(),
            paced: 1_000,
            in_flight: 15_000,
        }
    }
}

async fn measure(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Report> {
    let model = stage.model(Duration::ZERO).await?;
    warm_up(stage, &model, plan).await?;
    let speed = at_full_speed(stage, &model, plan).await?;
    let waits = at_a_pace(stage, &model, plan).await?;
    model.process.end().await?;
    let calls = in_flight(stage, plan).await?;

    let idle = median(waits.fleet.iter().map(|round| round.idle_mb));
    let peak = speed
        .fleet
        .iter()
        .map(|round| round.peak_mb)
        .fold(0.0, f64::max);
    let latency_ms = Sides {
        floor: Latency::of(&waits.floor),
        fleet: Latency::of(&waits.fleet),
    };
    let speed = Sides {
        floor: Speed::of(&speed.floor),
        fleet: Speed::of(&speed.fleet),
    };
    let ideal_per_s = IN_FLIGHT as f64 / CALL.as_secs_f64();
    let mut report = Report {
        ratio: speed.fleet.events_per_s / speed.floor.events_per_s,
        latency_ms,
        cpu_s_per_1000: speed.fleet.cpu_s_per_1000,
        speed,
        rss_mb: Memory {
            idle,
            peak,
            inflight_1000: calls.fleet.peak_mb,
        },
        inflight_ratio: calls.fleet.events_per_s / ideal_per_s,
        inflight: Inflight {
            ideal_per_s,
            floor_per_s: calls.floor.events_per_s,
            fleet_per_s: calls.fleet.events_per_s,
            floor_mean: calls.floor.in_flight,
            fleet_mean: calls.fleet.in_flight,
        },
        targets: Vec::new(),
        rounds: plan.rounds,
        events: plan.events,
        cpus: std::thread::available_parallelism()?.get(),
    };
    report.judge();
    Ok(report)
}

/// Nothing of it counts, but that it shows how long prompts are: the floor's are made as long.
async fn warm_up(stage: &mut Stage, model: &Model, plan: &Plan) -> anyhow::Result<()> {
    note("bench: warming up");
    let backlog = Backlog {
        events: plan.events.div_ceil(4),
        stories: STORIES.div_ceil(4),
        concurrency: CONCURRENCY,
    };
    let floor = backlog::work(stage, Side::Floor, model, backlog).await?;
    let fleet = backlog::work(stage, Side::Fleet, model, backlog).await?;
    stage.padding = (fleet.prompt - floor.prompt).max(0.0).round() as usize;
    Ok(())
}

async fn at_full_speed(
    stage: &mut Stage,
    model: &Model,
    plan: &Plan,
) -> anyhow::Result<Sides<Vec<Worked>>> {
    let backlog = Backlog {
        events: plan.events,
        stories: STORIES,
        concurrency: CONCURRENCY,
    };
    let mut rounds = Sides {
        floor: Vec::new(),
        fleet: Vec::new(),
    };
    for round in 1..=plan.rounds {
        let floor = backlog::work(stage, Side::Floor, model, backlog).await?;
        let fleet = backlog::work(stage, Side::Fleet, model, backlog).await?;
        note(&format!(
            "bench: full speed, round {round}: bare {:.0} events/s, worker {:.0}",
            floor.events_per_s, fleet.events_per_s
        ));
        rounds.floor.push(floor);
        rounds.fleet.push(fleet);
    }
    Ok(rounds)
}

async fn at_a_pace(
    stage: &mut Stage,
    model: &Model,
    plan: &Plan,
) -> anyhow::Result<Sides<Vec<Waits>>> {
    let mut rounds = Sides {
        floor: Vec::new(),
        fleet: Vec::new(),
    };
    for round in 1..=plan.rounds {
        note(&format!("bench: 200 events/s, round {round}"));
        rounds
            .floor
            .push(latency::measure(stage, Side::Floor, model, plan.paced).await?);
        rounds
            .fleet
            .push(latency::measure(stage, Side::Fleet, model, plan.paced).await?);
    }
    Ok(rounds)
}

async fn in_flight(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Sides<Worked>> {
    note("bench: 1,000 calls in flight of 200 ms");
    let model = stage.model(CALL).await?;
    let backlog = Backlog {
        events: plan.in_flight,
        stories: 2 * IN_FLIGHT,
        concurrency: IN_FLIGHT,
    };
    let floor = backlog::work(stage, Side::Floor, &model, backlog).await?;
    let fleet = backlog::work(stage, Side::Fleet, &model, backlog).await?;
    model.process.end().await?;
    Ok(Sides { floor, fleet })
}
