//! The state as lines, whatever shows them: a terminal of any size, or text. Pure. Colour never stands alone: a word or a
//! figure says the same, and only colours are used that are readable on light and on dark.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::keys::{Controls, Page};
use super::state::{Level, Note, Server, State};
use super::table;
use super::words::{bytes, time};

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looks {
    pub(super) colours: bool,
    pub(super) every: Duration,
}

/// Notes on a terminal of 24 lines; a larger one has room for more.
const FEWEST_NOTES: usize = 4;

const HELP: &str = "\
q, Esc, Ctrl-C   end
p, Space         hold still, and go on
Tab, Left, Right the column by which workers are sorted; r: the other way round
Up, Down, Page   workers above and below
v                all notes, the workers alone, everything again
?                this help, and away with it

ANS/S    turns answered in a second, of the last 10 s: every worker's
FAIL/S   turns given up on
P50 P99  how long turns took, of the last minute: of the pages of --metrics
FIRST    from an action to its first words, half of them sooner: of --metrics
WAIT     stories whose turn nobody took yet: workers help, unless models fail
FLIGHT   turns that workers have in hand
PARKED   events behind their own story's turn: no worker could begin them
OLDEST   how long the oldest of WAIT and FLIGHT is there
DEAD     events given up on that nobody sent again or purged
WRK      workers heard of in 10 s; –: Redis before 7.2 tells of no idle one
QUIET    since a worker was given anything: Redis 7.2 or later tells
SEEN     since a worker asked for work (before 7.2: was given any) or renewed it";

/// Workers that a terminal shows before all else goes.
const FEWEST_WORKERS: usize = 2;

pub(super) fn draw(
    state: &State,
    controls: &mut Controls,
    looks: Looks,
    area: Rect,
    buffer: &mut Buffer,
) {
    let Some(y) = area.bottom().checked_sub(1).filter(|_| area.height > 0) else {
        return;
    };
    let room = Rect {
        height: area.height - 1,
        ..area
    };
    match controls.page() {
        Page::Help => {
            let help = HELP.lines().map(|line| Line::raw(line.to_owned()));
            wrapped(help.collect(), controls, room, buffer);
        }
        Page::Notes => {
            let notes = state.notes.iter().map(|note| note_line(note, looks));
            let head = Line::raw(format!("Notes: {}", state.notes.len()));
            wrapped(
                [head].into_iter().chain(notes).collect(),
                controls,
                room,
                buffer,
            );
        }
        Page::Workers => {
            let lines = with_workers(Vec::new(), state, controls, looks, room);
            drawn(&lines, room, buffer);
        }
        Page::All => {
            let above = fitting(state, looks, room);
            let lines = with_workers(above, state, controls, looks, room);
            drawn(&lines, room, buffer);
        }
    }
    buffer.set_line(area.x, y, &foot(controls, looks), area.width);
}

/// Lines that may be longer than the terminal is wide. They are scrolled by the rows that they take, to the last one.
fn wrapped(lines: Vec<Line<'static>>, controls: &mut Controls, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width.max(1));
    // A row that ends between words may be half full.
    let most: usize = lines
        .iter()
        .map(|line| 2 * line.width().div_ceil(width) + 1)
        .sum();
    let most = Rect::new(0, 0, area.width, u16::try_from(most).unwrap_or(u16::MAX));
    let mut all = Buffer::empty(most);
    Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .render(most, &mut all);
    let is_empty = |row: &Rect| row.positions().all(|at| all[at].symbol() == " ");
    let rows: Vec<Rect> = most.rows().collect();
    let last = rows
        .iter()
        .rposition(|row| !is_empty(row))
        .map_or(0, |row| row + 1);
    controls.scroll = controls.scroll.min(last.saturating_sub(area.height.into()));
    for (from, to) in rows.iter().skip(controls.scroll).zip(area.rows()) {
        for (from, to) in from.positions().zip(to.positions()) {
            buffer[to] = all[from].clone();
        }
    }
}

/// What is above, and below it the workers.
fn with_workers(
    mut lines: Vec<Line<'static>>,
    state: &State,
    controls: &mut Controls,
    looks: Looks,
    area: Rect,
) -> Vec<Line<'static>> {
    let height = usize::from(area.height);
    let room = height.saturating_sub(lines.len() + 1);
    let last = state.workers.len().saturating_sub(room);
    controls.scroll = controls.scroll.min(last);
    let mut workers = table::workers(state, controls, looks, area.width.into()).into_iter();
    lines.extend(workers.next());
    lines.extend(workers.skip(controls.scroll));
    lines.truncate(height);
    lines
}

fn drawn(lines: &[Line<'static>], area: Rect, buffer: &mut Buffer) {
    for (line, y) in lines.iter().zip(area.y..) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

/// The same without a terminal, all of it.
pub(super) fn text(state: &State, controls: &Controls, looks: Looks, width: u16) -> String {
    let mut lines = above(state, looks, ALL, width);
    lines.extend(table::workers(state, controls, looks, width.into()));
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

/// How much of it is shown above the workers.
#[derive(Debug, Clone, Copy)]
struct Detail {
    /// Whether empty lines set its parts apart.
    airy: bool,
    /// Where readers and times come from.
    readers: bool,
    shards: bool,
    /// Redis's servers; while they are away, why.
    servers: bool,
    /// Of one alone it is not said how many more there are.
    notes: usize,
}

const ALL: Detail = Detail {
    airy: true,
    readers: true,
    shards: true,
    servers: true,
    notes: usize::MAX,
};

/// As much of it as leaves room for some workers: people's answers and what is worst stay longest.
fn fitting(state: &State, looks: Looks, area: Rect) -> Vec<Line<'static>> {
    let height = usize::from(area.height);
    // Of the whole terminal, with its last line.
    let notes = ((height + 1) / 4).max(FEWEST_NOTES);
    let mut detail = Detail { notes, ..ALL };
    let workers = 1 + state.workers.len().min(FEWEST_WORKERS);
    loop {
        let lines = above(state, looks, detail, area.width);
        if lines.len() + workers <= height {
            return lines;
        }
        match detail {
            Detail { airy: true, .. } => detail.airy = false,
            Detail { readers: true, .. } => detail.readers = false,
            Detail { shards: true, .. } => detail.shards = false,
            Detail { servers: true, .. } => detail.servers = false,
            Detail { notes: 2.., .. } => detail.notes -= 1,
            _ => return lines,
        }
    }
}

/// All but the workers.
fn above(state: &State, looks: Looks, detail: Detail, width: u16) -> Vec<Line<'static>> {
    let gap = || detail.airy.then(Line::default);
    let mut lines = vec![title(state, looks)];
    if let (Some(away), true) = (&state.away, detail.servers) {
        lines.push(Line::raw(away.why.clone()));
        lines.push(Line::raw("All below is what was seen before."));
    }
    if detail.servers {
        lines.extend(state.servers.iter().map(server));
    }
    if detail.readers {
        lines.push(readers(state));
    }
    lines.extend(gap());
    lines.extend(table::agents(state, looks, width.into()));
    if detail.shards && !state.shards.is_empty() {
        lines.extend(gap());
        lines.extend(table::shards(state));
    }
    lines.extend(gap());
    let shown = state.notes.iter().take(detail.notes);
    lines.extend(shown.map(|note| note_line(note, looks)));
    let more = state.notes.len().saturating_sub(detail.notes);
    if more > 0 && detail.notes > 1 {
        lines.push(Line::raw(format!("  and {more} more: v")));
    }
    if !state.notes.is_empty() {
        lines.extend(gap());
    }
    lines
}

fn title(state: &State, looks: Looks) -> Line<'static> {
    let name = Span::styled("storyfleet top", Modifier::BOLD);
    let Some(away) = &state.away else {
        let is_told = state.agents.iter().all(|row| row.workers.is_some());
        let untold = if is_told {
            ""
        } else {
            "  WRK –: idle or none (?)"
        };
        let text = format!("  {}  {:.0}{untold}", state.redis, state.time);
        return Line::from(vec![name, Span::raw(text)]);
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
    let name =
        format!("{} {} {}", server.software, server.address, server.version).replace("  ", " ");
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

fn note_line(note: &Note, looks: Looks) -> Line<'static> {
    let (mark, style) = match note.level {
        Level::Bad => ("! ", bad(looks)),
        Level::Warning => ("* ", warning()),
        Level::Info => ("- ", Style::default()),
    };
    Line::styled(format!("{mark}{}", note.text), style)
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
        " q end  ? help  v view  p hold  Tab sort  r reverse  arrows scroll",
        Modifier::DIM,
    );
    Line::from(vec![state, keys])
}

pub(super) fn bad(looks: Looks) -> Style {
    coloured(Color::Red, looks).add_modifier(Modifier::BOLD)
}

/// In the terminal's own colour: yellow cannot be read on white, and magenta and blue not on black.
fn warning() -> Style {
    Style::default().add_modifier(Modifier::BOLD)
}

fn coloured(colour: Color, looks: Looks) -> Style {
    if looks.colours {
        Style::default().fg(colour)
    } else {
        Style::default()
    }
}
