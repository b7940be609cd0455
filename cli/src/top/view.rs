//! The state as lines, whatever shows them: a terminal of any size, or text. Pure. Colour never stands alone: a word or a
//! figure says the same, and only colours are used that are readable on light and on dark.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::keys::{Controls, Sort};
use super::state::{Level, Note, Row, Server, ShardRow, State, Worker};
use super::words::{at_least, bytes, rate, seconds, time};

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub(super) colours: bool,
    pub(super) every: Duration,
}

/// Notes on a terminal of 24 lines; a larger one has room for more.
const FEWEST_NOTES: usize = 4;
const SHARDS_SHOWN: usize = 12;

const HELP: &str = "\
q, Esc, Ctrl-C   end
p, Space         hold still, and go on
Tab, Left, Right the column by which workers are sorted; r: the other way round
Up, Down, Page   workers above and below
?                this help, and away with it

ANS/S    turns answered in a second, of the last 10 s: every worker's
FAIL/S   turns given up on
P50 P99  how long turns took, of the last minute: of the pages of --metrics
FIRST    from an action to its first words, half of them sooner: of --metrics
WAIT     stories whose turn no worker has taken yet: more workers help
FLIGHT   turns that workers have in hand
PARKED   events behind their own story's turn: no worker could begin them
OLDEST   how long the oldest of WAIT and FLIGHT is there
DEAD     events given up on that nobody sent again or purged
WRK      workers heard of in 10 s; –: Redis before 7.2 tells of no idle one
QUIET    since a worker was given anything: Redis 7.2 or later tells
SEEN     since a worker asked for work (before 7.2: was given any) or renewed it";

pub(super) fn draw(
    state: &State,
    controls: &mut Controls,
    looks: Looks,
    area: Rect,
    buffer: &mut Buffer,
) {
    let height = usize::from(area.height);
    let mut lines = if controls.help {
        HELP.lines()
            .map(|line| Line::raw(line.to_owned()))
            .collect()
    } else {
        let mut lines = above(state, looks, height / 4);
        let room = height.saturating_sub(lines.len() + 2);
        controls.scroll = controls
            .scroll
            .min(state.workers.len().saturating_sub(room));
        lines.push(workers_head(controls));
        lines.extend(
            sorted(state, controls)
                .skip(controls.scroll)
                .map(|each| worker(each, looks)),
        );
        lines
    };
    lines.truncate(height.saturating_sub(1));
    for (line, y) in lines.iter().zip(area.y..) {
        buffer.set_line(area.x, y, line, area.width);
    }
    if let Some(y) = area.bottom().checked_sub(1).filter(|_| height > 0) {
        buffer.set_line(area.x, y, &foot(controls, looks), area.width);
    }
}

/// The same without a terminal, all of it.
pub(super) fn text(state: &State, controls: &Controls, looks: Looks, width: u16) -> String {
    let mut lines = above(state, looks, usize::MAX);
    lines.push(workers_head(controls));
    lines.extend(sorted(state, controls).map(|each| worker(each, looks)));
    let mut text = String::new();
    for line in lines {
        let area = Rect::new(0, 0, width.max(line.width().try_into().unwrap_or(width)), 1);
        let mut buffer = Buffer::empty(area);
        buffer.set_line(0, 0, &line, area.width);
        let shown: String = buffer
            .content()
            .iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect();
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

/// All but the workers.
fn above(state: &State, looks: Looks, notes: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(state, looks)];
    if let Some(away) = &state.away {
        lines.push(Line::raw(away.why.clone()));
        lines.push(Line::raw("All below is what was seen before."));
    }
    lines.extend(state.servers.iter().map(server));
    lines.push(readers(state));
    lines.push(Line::default());
    lines.push(head(&agents_head()));
    lines.extend(state.agents.iter().map(|row| agent(row, looks)));
    lines.extend(shards(state));
    lines.push(Line::default());
    let room = notes.max(FEWEST_NOTES);
    let shown = state.notes.iter().take(room);
    lines.extend(shown.map(|note| note_line(note, looks)));
    if let Some(more) = state.notes.len().checked_sub(room).filter(|more| *more > 0) {
        lines.push(Line::raw(format!("  and {more} more")));
    }
    if !state.notes.is_empty() {
        lines.push(Line::default());
    }
    lines
}

fn title(state: &State, looks: Looks) -> Line<'static> {
    let name = Span::styled("storyfleet top", Modifier::BOLD);
    let Some(away) = &state.away else {
        return Line::from(vec![
            name,
            Span::raw(format!("  {}  {:.0}", state.redis, state.time)),
        ]);
    };
    let what = if away.reachable {
        "refuses"
    } else {
        "is not reachable"
    };
    let text = format!(
        "  Redis {what} since {:.0} ({} s)",
        away.since, away.seconds
    );
    Line::from(vec![name, Span::styled(text, bad(looks))])
}

fn server(server: &Server) -> Line<'static> {
    let limit = server
        .memory_limit_bytes
        .map_or_else(|| "no limit".to_owned(), bytes);
    let replication = match (server.master_link, server.behind_bytes) {
        (Some(true), _) => "hears its master".to_owned(),
        (Some(false), _) => "does not hear its master".to_owned(),
        (None, None) => "no replica".to_owned(),
        (None, Some(behind)) => format!("replicas {} ({} behind)", server.replicas, bytes(behind)),
    };
    let name = format!("Redis {} {}", server.address, server.version).replace("  ", " ");
    let text = format!(
        "{name} {}, {replication}  {} of {limit}  {} cmds/s  {} clients",
        server.role,
        bytes(server.memory_bytes),
        server.commands_per_s,
        server.clients
    );
    Line::raw(text)
}

fn readers(state: &State) -> Line<'static> {
    Line::raw(match &state.readers {
        Some(readers) => format!(
            "Readers {}: {} by WebSocket, {} by SSE; gateways {}",
            readers.websocket + readers.sse,
            readers.websocket,
            readers.sse,
            readers.gateways
        ),
        None if state.pages > 0 => "Readers: no gateway among the pages of --metrics".to_owned(),
        None => "Readers and times: --metrics URL, of each worker and gateway".to_owned(),
    })
}

fn agents_head() -> String {
    cells(
        "AGENT",
        &[
            "ANS/S", "FAIL/S", "P50", "P99", "FIRST", "WAIT", "FLIGHT", "PARKED", "OLDEST", "DEAD",
            "WRK",
        ],
    )
}

/// A name, and figures that end below each other: 79 columns.
fn cells(name: &str, figures: &[&str; 11]) -> String {
    let widths = [6, 7, 6, 6, 6, 6, 7, 7, 7, 5, 4];
    let mut text = format!("{name:<10}");
    for (figure, width) in figures.iter().zip(widths) {
        text += &format!("{figure:>width$}");
    }
    text
}

fn agent(row: &Row, looks: Looks) -> Line<'static> {
    let text = cells(
        row.agent,
        &[
            &rate(row.answered_per_s),
            &rate(row.failed_per_s),
            &seconds(row.turn_p50_s),
            &seconds(row.turn_p99_s),
            &seconds(row.first_words_p50_s),
            &row.waiting.to_string(),
            &row.in_flight.to_string(),
            &at_least(row.parked, row.parked_is_all),
            &time(row.oldest_ms),
            &row.dead.to_string(),
            &row.workers
                .map_or_else(|| "–".to_owned(), |count| count.to_string()),
        ],
    );
    let unattended = row.workers == Some(0) && row.waiting + row.in_flight > 0;
    let failing = row.failed_per_s.is_some_and(|rate| rate > 0.0);
    let style = if unattended || failing {
        bad(looks)
    } else {
        Style::default()
    };
    Line::styled(text, style)
}

fn shards(state: &State) -> Vec<Line<'static>> {
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
    let mut lines = vec![Line::default(), head(&columns)];
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

fn note_line(note: &Note, looks: Looks) -> Line<'static> {
    let (mark, style) = match note.level {
        Level::Bad => ("! ", bad(looks)),
        Level::Warning => ("* ", warning(looks)),
        Level::Info => ("- ", Style::default()),
    };
    Line::styled(format!("{mark}{}", note.text), style)
}

fn workers_head(controls: &Controls) -> Line<'static> {
    let mut spans = Vec::new();
    for column in Sort::ALL {
        let (name, width) = match column {
            Sort::Agent => ("AGENT", 0),
            Sort::Worker => ("WORKER", 0),
            Sort::InFlight => ("FLIGHT", 7),
            Sort::Quiet => ("QUIET", 7),
            Sort::Seen => ("SEEN", 7),
        };
        let arrow = if controls.reversed { "▼" } else { "▲" };
        let name = if column == controls.sort {
            format!("{name}{arrow}")
        } else {
            name.to_owned()
        };
        let text = match column {
            Sort::Agent => format!("{name:<10}"),
            Sort::Worker => format!("{name:<40}"),
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

fn worker(worker: &Worker, looks: Looks) -> Line<'static> {
    let name: String = worker.worker.chars().take(39).collect();
    let text = format!(
        "{:<10}{name:<40}{:>7}{:>7}{:>7}",
        worker.agent,
        worker.in_flight,
        time(worker.quiet_ms),
        time(Some(worker.seen_ms))
    );
    match (worker.alive, worker.in_flight) {
        (Some(true), _) => Line::raw(text),
        (None, _) => Line::styled(text + " quiet", Modifier::DIM),
        (Some(false), 0) => Line::styled(text + " gone", Modifier::DIM),
        (Some(false), _) => Line::styled(text + " silent", bad(looks)),
    }
}

fn foot(controls: &Controls, looks: Looks) -> Line<'static> {
    let state = if controls.paused {
        Span::styled(" held still: p goes on ", Modifier::REVERSED)
    } else {
        Span::raw(format!(
            " every {} ",
            time(looks.every.as_millis().try_into().ok())
        ))
    };
    let keys = Span::styled(
        " q end  p hold still  Tab sort  r reverse  arrows scroll  ? help",
        Modifier::DIM,
    );
    Line::from(vec![state, keys])
}

fn head(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), head_style())
}

fn head_style() -> Style {
    Style::default().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
}

fn bad(looks: Looks) -> Style {
    coloured(Color::Red, looks).add_modifier(Modifier::BOLD)
}

/// Not yellow, which nobody can read on white.
fn warning(looks: Looks) -> Style {
    coloured(Color::Magenta, looks)
}

fn coloured(colour: Color, looks: Looks) -> Style {
    if looks.colours {
        Style::default().fg(colour)
    } else {
        Style::default()
    }
}
