//! The tables of agents, shards and workers, as wide as there is room: what matters less than the rest goes first.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::keys::{Controls, Sort};
use super::state::{Row, ShardRow, State, Worker};
use super::view::{Looks, bad};
use super::words::{at_least, rate, seconds, time};

const SHARDS_SHOWN: usize = 12;
/// The name of an agent.
const NAME: usize = 10;
/// The columns beside it, with their widths, from left to right.
const COLUMNS: [(&str, usize); 11] = [
    ("ANS/S", 6),
    ("FAIL/S", 7),
    ("P50", 6),
    ("P99", 6),
    ("FIRST", 6),
    ("WAIT", 6),
    ("FLIGHT", 7),
    ("PARKED", 7),
    ("OLDEST", 7),
    ("DEAD", 5),
    ("WRK", 4),
];
/// Those that a narrow terminal has no room for, the first to go first.
const GOING: [&str; 6] = ["FIRST", "P50", "P99", "FAIL/S", "PARKED", "ANS/S"];
/// A worker's name, where there is room.
const WORKER: usize = 40;
const FEWEST_OF_WORKER: usize = 8;
/// A figure of a worker.
const FIGURE: usize = 7;
/// What is said of one behind its figures.
const WORD: usize = 8;

/// The agents, their head first.
pub(super) fn agents(state: &State, looks: Looks, width: usize) -> Vec<Line<'static>> {
    let shown = shown(width);
    let head_of = COLUMNS.map(|(name, _)| name.to_owned());
    let mut lines = vec![head(&cells("AGENT", &head_of, &shown))];
    lines.extend(state.agents.iter().map(|row| agent(row, looks, &shown)));
    lines
}

/// Which columns fit.
fn shown(width: usize) -> [bool; 11] {
    let mut shown = [true; 11];
    let mut going = GOING.iter();
    loop {
        let columns = COLUMNS.iter().zip(shown).filter(|(_, is_shown)| *is_shown);
        let needed = NAME + columns.map(|((_, width), _)| width).sum::<usize>();
        let Some(next) = going.next().filter(|_| needed > width) else {
            return shown;
        };
        for ((name, _), is_shown) in COLUMNS.iter().zip(&mut shown) {
            *is_shown &= name != next;
        }
    }
}

/// A name, and figures that end below each other.
fn cells(name: &str, figures: &[String; 11], shown: &[bool; 11]) -> String {
    let mut text = format!("{name:<NAME$}");
    for ((figure, (_, width)), is_shown) in figures.iter().zip(COLUMNS).zip(shown) {
        if *is_shown {
            text += &format!("{figure:>width$}");
        }
    }
    text
}

fn agent(row: &Row, looks: Looks, shown: &[bool; 11]) -> Line<'static> {
    let workers = row.workers.map(|count| count.to_string());
    let figures = [
        rate(row.answered_per_s),
        rate(row.failed_per_s),
        seconds(row.turn_p50_s),
        seconds(row.turn_p99_s),
        seconds(row.first_words_p50_s),
        row.waiting.to_string(),
        row.in_flight.to_string(),
        at_least(row.parked, row.parked_is_all),
        time(row.oldest_ms),
        row.dead.to_string(),
        workers.unwrap_or_else(|| "–".to_owned()),
    ];
    let unattended = row.workers == Some(0) && row.waiting + row.in_flight > 0;
    let failing = row.failed_per_s.is_some_and(|rate| rate > 0.0);
    let style = if unattended || failing {
        bad(looks)
    } else {
        Style::default()
    };
    Line::styled(cells(row.agent, &figures, shown), style)
}

pub(super) fn shards(state: &State) -> Vec<Line<'static>> {
    if state.shards.is_empty() {
        return Vec::new();
    }
    let mut busiest: Vec<&ShardRow> = state.shards.iter().collect();
    busiest.sort_by_key(|row| {
        (
            std::cmp::Reverse(row.waiting + row.in_flight + row.parked),
            row.agent,
            row.shard,
        )
    });
    let row = |row: &&ShardRow| {
        let parked = at_least(row.parked, row.parked_is_all);
        Line::raw(format!(
            "{:<10}{:>6}{:>8}{:>8}{:>8}{:>8}{:>6}",
            row.agent,
            row.shard,
            row.waiting,
            row.in_flight,
            parked,
            time(row.oldest_ms),
            row.dead
        ))
    };
    let columns = format!(
        "{:<10}{:>6}{:>8}{:>8}{:>8}{:>8}{:>6}",
        "AGENT", "SHARD", "WAIT", "FLIGHT", "PARKED", "OLDEST", "DEAD"
    );
    let mut lines = vec![head(&columns)];
    lines.extend(busiest.iter().take(SHARDS_SHOWN).map(row));
    if let Some(more) = busiest
        .len()
        .checked_sub(SHARDS_SHOWN)
        .filter(|more| *more > 0)
    {
        lines.push(Line::raw(format!("  and {more} that have less to do")));
    }
    lines
}

/// The workers in the order that was chosen, their head first.
pub(super) fn workers(
    state: &State,
    controls: &Controls,
    looks: Looks,
    width: usize,
) -> Vec<Line<'static>> {
    let columns = Columns::fit(width);
    let mut lines = vec![workers_head(controls, columns)];
    let sorted = sorted(state, controls);
    lines.extend(sorted.map(|each| worker(each, looks, columns)));
    lines
}

/// Of the workers' table.
#[derive(Debug, Clone, Copy)]
struct Columns {
    worker: usize,
    has_quiet: bool,
}

impl Columns {
    fn fit(width: usize) -> Self {
        let room = |figures: usize| width.saturating_sub(NAME + figures * FIGURE + WORD);
        let has_quiet = room(3) >= 2 * FEWEST_OF_WORKER;
        let worker = room(if has_quiet { 3 } else { 2 });
        Self {
            worker: worker.clamp(FEWEST_OF_WORKER, WORKER),
            has_quiet,
        }
    }
}

fn workers_head(controls: &Controls, columns: Columns) -> Line<'static> {
    let mut spans = Vec::new();
    for column in Sort::ALL {
        let (name, width) = match column {
            Sort::Agent => ("AGENT", NAME),
            Sort::Worker => ("WORKER", columns.worker),
            Sort::InFlight => ("FLIGHT", FIGURE),
            Sort::Quiet if !columns.has_quiet => continue,
            Sort::Quiet => ("QUIET", FIGURE),
            Sort::Seen => ("SEEN", FIGURE),
        };
        let arrow = if controls.reversed { "▼" } else { "▲" };
        let name = if column == controls.sort {
            format!("{name}{arrow}")
        } else {
            name.to_owned()
        };
        let text = match column {
            Sort::Agent | Sort::Worker => format!("{name:<width$}"),
            _ => format!("{name:>width$}"),
        };
        spans.push(Span::styled(text, head_style()));
    }
    Line::from(spans)
}

/// In the order that was chosen.
fn sorted<'a>(state: &'a State, controls: &Controls) -> impl Iterator<Item = &'a Worker> {
    let mut workers: Vec<&Worker> = state.workers.iter().collect();
    match controls.sort {
        Sort::Agent => workers.sort_by_key(|each| (each.agent, &each.worker)),
        Sort::Worker => workers.sort_by_key(|each| &each.worker),
        // Whoever sorts by a figure looks for the largest.
        Sort::InFlight => workers.sort_by_key(|each| std::cmp::Reverse(each.in_flight)),
        Sort::Quiet => workers.sort_by_key(|each| std::cmp::Reverse(each.quiet_ms)),
        Sort::Seen => workers.sort_by_key(|each| std::cmp::Reverse(each.seen_ms)),
    }
    if controls.reversed {
        workers.reverse();
    }
    workers.into_iter()
}

fn worker(worker: &Worker, looks: Looks, columns: Columns) -> Line<'static> {
    let width = columns.worker;
    let name: String = worker.worker.chars().take(width - 1).collect();
    let quiet = match columns.has_quiet {
        true => format!("{:>FIGURE$}", time(worker.quiet_ms)),
        false => String::new(),
    };
    let text = format!(
        "{:<NAME$}{name:<width$}{:>FIGURE$}{quiet}{:>FIGURE$}",
        worker.agent,
        worker.in_flight,
        time(Some(worker.seen_ms))
    );
    match (worker.alive, worker.in_flight) {
        (Some(true), _) => Line::raw(text),
        (None, _) if worker.unheard => Line::styled(text + " unheard", Modifier::DIM),
        (None, _) => Line::styled(text + " quiet", Modifier::DIM),
        (Some(false), 0) => Line::styled(text + " gone", Modifier::DIM),
        (Some(false), _) => Line::styled(text + " silent", bad(looks)),
    }
}

fn head(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), head_style())
}

fn head_style() -> Style {
    Style::default().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
}
