//! The chaos run of the edge: readers on WebSocket and SSE are cut off at any instant and come back to either of two nodes,
//! while answers stream and nodes, agents and Redis die; then each reader's text is compared with the log, to the character.
//!
//! What is compared: (1) while reading, each piece must join exactly to what the reader has, across cuts; (2) when a response
//! is committed, the draft that its reader has must be the beginning of it, and is counted as whole when it is all of it;
//! (3) at the end, (seq, id, text) of every event a reader has must be those of the log in Redis. And whoever
//! is connected must have soon what others have: a reader who hangs is told of, though their next connection would mend it.

mod blows;
mod hang;
mod plan;
mod player;
mod reader;
mod report;
pub(crate) mod screen;
mod stage;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use story::{LogEntry, Payload};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use crate::edge::Issuer;
use crate::ordeal::{keep, log, rest};
use crate::{Model, ordeal};

use blows::Fleet;
use player::Played;
use reader::Reader;
use stage::Stage;

pub use plan::Size;
pub use report::Report;

/// How long the agents may take to finish.
const REST: Duration = Duration::from_secs(180);
const TELL: Duration = Duration::from_secs(5);

/// Runs and compares. `tell` is given a line now and then. What all processes wrote stays on disk when anything is wrong.
///
/// # Errors
/// When the run cannot be made; what it finds wrong is in the report.
pub async fn run(size: Size, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let folder = TempDir::with_prefix("storyfleet-cuts-")?;
    let ran = run_in(folder.path(), size, tell).await;
    keep(folder, ran, Report::is_clean, |report| &mut report.kept)
}

async fn run_in(folder: &Path, size: Size, tell: impl Fn(&str)) -> anyhow::Result<Report> {
    let stories = plan::stories(size.stories)?;
    let ordeal::Stage { redis, bus, .. } =
        ordeal::Stage::set(folder, 1, &stories, plan::CHARACTER).await?;
    let seed = size.seed.to_string();
    let options = ["--seed", &seed, "--itl", "20ms", "--chunk-tokens", "8"];
    let model = Model::start(&plan::scenario(), &options).await?;
    let issuer = Issuer::new(folder)?;
    let mut fleet = Fleet::start(redis, model.url(), folder).await?;
    let nodes = fleet.nodes.iter().map(|node| node.address()).collect();
    let stage = Arc::new(Stage::new(size.seed, size.cuts, nodes, (&stories, issuer)));
    let start = Instant::now();
    let happened = tokio::select! {
        happened = happen(&stage, &mut fleet, &bus, size.readers) => happened,
        told = progress(&stage, tell) => told,
    };
    let (played, readers) = happened?;
    let mut report = Report::new(size, start.elapsed().as_secs_f64(), fleet.blows);
    compare(&mut report, &bus, &stage, (played, readers)).await?;
    fleet.end().await?;
    report.wrong.append(&mut fleet.wrong);
    model.end().await?;
    report.finish();
    Ok(report)
}

async fn happen(
    stage: &Arc<Stage>,
    fleet: &mut Fleet,
    bus: &Bus,
    count: u32,
) -> anyhow::Result<(Played, Vec<Reader>)> {
    let (mut readers, mut players) = (JoinSet::new(), JoinSet::new());
    for number in 0..count {
        readers.spawn(Reader::new(Arc::clone(stage), number)?.read());
    }
    for story in 0..stage.stories.len() {
        players.spawn(player::play(Arc::clone(stage), story));
    }
    let blows = async {
        fleet.suffer(stage, bus).await?;
        stage.calm.cancel();
        anyhow::Ok(())
    };
    let plays = async {
        let mut all = Played::default();
        while let Some(played) = players.join_next().await {
            all.add(played??);
        }
        anyhow::Ok(all)
    };
    let ((), played) = tokio::try_join!(blows, plays)?;
    let mut ends = Vec::new();
    for board in &stage.stories {
        rest(bus, [&board.id], REST).await?;
        ends.push(bus.story(&board.id).await?.seq.0);
    }
    stage.ends.send_replace(Some(ends));
    let mut all = Vec::new();
    while let Some(reader) = readers.join_next().await {
        all.push(reader??);
    }
    Ok((played, all))
}

async fn progress<T>(stage: &Stage, tell: impl Fn(&str)) -> anyhow::Result<T> {
    let mut ticks = interval_at(Instant::now() + TELL, TELL);
    loop {
        ticks.tick().await;
        let ended: usize = stage
            .stories
            .iter()
            .map(|board| board.ended.borrow().len())
            .sum();
        tell(&format!(
            "cuts left {}, actions ended {ended}, deltas read {}",
            stage.cuts_left(),
            *stage.deltas.borrow()
        ));
    }
}

async fn compare(
    report: &mut Report,
    bus: &Bus,
    stage: &Stage,
    (played, readers): (Played, Vec<Reader>),
) -> anyhow::Result<()> {
    let mut logs = Vec::new();
    for board in &stage.stories {
        let log = log(bus, &board.id).await?;
        committed(report, &log);
        logs.push(log);
    }
    for (story, id) in &played.accepted {
        let times = logs[*story]
            .iter()
            .filter(|entry| entry.event.id.as_str() == id);
        let times = times.count();
        if times != 1 {
            report
                .wrong
                .push(format!("{id} was accepted and is there {times} times"));
        }
    }
    report.played = played;
    let screens: Vec<_> = readers.iter().map(|reader| &reader.screen).collect();
    report.wrong.extend(screen::unexplained(&screens));
    for reader in readers {
        *report.readers.entry(reader.transport).or_default() += 1;
        report.cuts(&reader.cuts);
        for (kind, count) in &reader.resumes {
            *report.resumes.entry(kind.clone()).or_default() += count;
        }
        report.seen.add(&reader.screen.tally);
        report.behind = report.behind.max(reader.behind.as_secs_f64());
        let name = reader.name();
        let wrong = reader.screen.wrong.iter();
        report
            .wrong
            .extend(wrong.map(|what| format!("{name}: {what}")));
        match reader.screen.difference(&logs[reader.story]) {
            Some(what) => report.wrong.push(format!("{name}: {what}")),
            None if reader.screen.shows(plan::CARD) => report
                .wrong
                .push(format!("{name} shows what was taken back")),
            None => report.equal += 1,
        }
    }
    Ok(())
}

fn committed(report: &mut Report, log: &[LogEntry]) {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    report.log.events += count(log.len());
    let mut ids = HashSet::new();
    for LogEntry { seq, event } in log {
        if !ids.insert(&event.id) {
            report
                .wrong
                .push(format!("{} is twice in {}", event.id, event.story));
        }
        match event.payload() {
            Payload::Failed(_) => report.log.failed += 1,
            Payload::Retracted(_) => report.log.taken_back += 1,
            Payload::Narration(_) | Payload::Dialogue(_)
                if !event.extra.contains_key("retracted") =>
            {
                let text = event.payload().text().unwrap_or_default();
                let characters = count(text.chars().count());
                let fewest = report.log.shortest;
                report.log.responses += 1;
                report.log.characters += characters;
                report.log.longest = report.log.longest.max(characters);
                report.log.shortest = if fewest == 0 {
                    characters
                } else {
                    fewest.min(characters)
                };
                if text.contains(plan::CARD) {
                    report
                        .wrong
                        .push(format!("{} at {seq} was not taken back", event.id));
                }
            }
            _ => {}
        }
    }
}
