//! `storyfleet bench --fleet`: many processes on one Redis. How fast they are together and who takes the machine's time,
//! many shards against one, and what stories take of Redis's memory.

mod crowd;
mod report;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use agent::Shutdown;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::crowd::Crowd;
use self::report::{Memory, Report, Scale, Shards};
use super::backlog::{self, Backlog};
use super::load::Load;
use super::report::{Speed, median};
use super::stage::{Model, Side, Stage};
use super::{CONCURRENCY, INSTANT, YOUNG, show, unless};
use crate::args::BenchArgs;
use crate::output::{Output, note};

/// Worker processes of each round.
const WORKERS: [usize; 4] = [1, 2, 6, 12];
const GATEWAYS: usize = 2;
/// Of each gateway, each in a story of their own.
const READERS: usize = 100;
/// Stories whose keys are weighed one by one.
const WEIGHED: usize = 200;
/// Commands to Redis at the same time.
const AT_ONCE: usize = 32;

/// How much is measured.
struct Plan {
    rounds: usize,
    events: usize,
    shards: u16,
    stories: usize,
    readers: usize,
    /// Slots of a worker where there are many.
    slots: usize,
}

pub(super) async fn run(args: &BenchArgs, out: Output) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        note("bench: this is a debug build: `make bench-fleet` measures a release build");
    }
    let plan = Plan::of(args);
    let asked = Shutdown::on_signals(&TaskTracker::new())?;
    let mut stage = Stage::new().await?;
    let measured = unless(&asked, measure(&mut stage, &plan)).await;
    stage.end().await?;
    show(out, &measured?, Report::text)
}

impl Plan {
    fn of(args: &BenchArgs) -> Self {
        if args.quick {
            return Self {
                rounds: 1,
                events: 400,
                shards: args.shards,
                stories: 200,
                readers: 5,
                slots: 8,
            };
        }
        Self {
            rounds: args.rounds.get(),
            events: args.events.try_into().unwrap_or(usize::MAX),
            shards: args.shards,
            stories: args.stories.try_into().unwrap_or(usize::MAX),
            readers: READERS,
            slots: CONCURRENCY,
        }
    }
}

async fn measure(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let model = stage.model(INSTANT).await?;
    let shards = shards(stage, &model, plan).await?;
    let mut scale = Vec::new();
    for workers in WORKERS {
        scale.push(together(stage, &model, plan, workers).await?);
    }
    let memory = memory(stage, &model, plan).await?;
    model.process.end().await?;
    Ok(Report {
        shards,
        scale,
        memory,
        cpus: std::thread::available_parallelism()?.get(),
        seconds: begin.elapsed().as_secs_f64(),
    })
}

/// One worker works off the same backlog with one shard and with many, in turns. The first round warms up.
async fn shards(stage: &mut Stage, model: &Model, plan: &Plan) -> anyhow::Result<Shards> {
    let backlog = super::backlog(plan.events, YOUNG);
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for round in 0..=2 * plan.rounds {
        // One, many, many, one …
        let is_many = round % 4 == 2 || round % 4 == 3;
        stage.shards = if is_many { plan.shards } else { 1 };
        let worked = backlog::work(stage, Side::Fleet, model, backlog).await?;
        let (count, rate) = (stage.shards, worked.events_per_s);
        note(&format!("bench: {count} shards: {rate:.0} events/s"));
        if round > 0 {
            if is_many { &mut many } else { &mut one }.push(worked);
        }
    }
    stage.shards = 1;
    Ok(Shards::new(plan.shards, Speed::of(&one), Speed::of(&many)))
}

/// `workers` processes and two gateways, whose readers read along.
async fn together(
    stage: &mut Stage,
    model: &Model,
    plan: &Plan,
    workers: usize,
) -> anyhow::Result<Scale> {
    let backlog = Backlog {
        events: plan.events.max(3 * workers * plan.slots),
        stories: plan.events.div_ceil(YOUNG),
        concurrency: plan.slots,
        processes: workers,
    };
    let mut rounds = Vec::new();
    for _ in 0..plan.rounds {
        let load = stage.load(Side::Fleet, backlog.stories).await?;
        let crowd = Crowd::gather(stage, &load, GATEWAYS, plan.readers).await?;
        load.fill(backlog.events).await?;
        let before = crowd.cpu()?;
        let worked = backlog::work_off(stage, Side::Fleet, model, &load, backlog).await?;
        let gateways = crowd.cpu()?.saturating_sub(before);
        let (frames, rate) = (crowd.end().await?, worked.events_per_s);
        note(&format!("bench: {workers} workers: {rate:.0} events/s"));
        rounds.push((worked, gateways, frames));
    }
    let speeds: Vec<_> = rounds.iter().map(|(worked, ..)| *worked).collect();
    let per_1000 = |cpu: Duration| cpu.as_secs_f64() / backlog.events as f64 * 1_000.0;
    Ok(Scale {
        workers,
        speed: Speed::of(&speeds),
        gateways_cpu_s_per_1000: median(rounds.iter().map(|(_, cpu, _)| per_1000(*cpu))),
        frames: median(rounds.iter().map(|(.., frames)| *frames as f64)),
    })
}

/// What stories take: made, and then told for a few turns.
async fn memory(stage: &mut Stage, model: &Model, plan: &Plan) -> anyhow::Result<Memory> {
    let bus = stage.empty().await?;
    let empty = bus.bare(super::bare::AGENT).memory().await?;
    let load = Load::new(bus, Side::Fleet, plan.stories).await?;
    let made = load.bare.memory().await?;
    let backlog = Backlog {
        events: YOUNG * plan.stories,
        stories: plan.stories,
        concurrency: plan.slots,
        processes: 2,
    };
    note(&format!("bench: {} stories", plan.stories));
    load.fill(backlog.events).await?;
    backlog::work_off(stage, Side::Fleet, model, &load, backlog).await?;
    let told = load.bare.memory().await?;
    let sizes = stream::iter(load.stories.iter().take(WEIGHED));
    let sizes = sizes.map(|story| load.bare.sizes(story));
    let sizes: Vec<_> = sizes.buffer_unordered(AT_ONCE).try_collect().await?;
    let weighed = sizes.len() as f64;
    let mut keys = BTreeMap::<&str, f64>::new();
    for (name, bytes) in sizes.into_iter().flatten() {
        *keys.entry(name).or_default() += bytes as f64 / weighed;
    }
    let each = |bytes: u64| bytes as f64 / plan.stories as f64;
    Ok(Memory {
        stories: plan.stories,
        turns: YOUNG,
        made: each(made.saturating_sub(empty)),
        told: each(told.saturating_sub(empty)),
        keys,
    })
}
