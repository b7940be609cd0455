//! Why it is as it is, and what to do about it: what an operator would look for in the figures.

use bus::Fleet;

use super::model::Page;
use super::state::{Level, Note, Row, Server, State, Worker};
use super::words;
use crate::output::one_line;

/// An event that is there for longer is worth a look.
const OLD_MS: u64 = 60_000;

/// The most important first.
pub(super) fn notes(state: &State, fleet: &Fleet, pages: &[Page]) -> Vec<Note> {
    let mut notes = Vec::new();
    if !fleet.away.is_empty() {
        let shards: Vec<String> = fleet.away.iter().map(u16::to_string).collect();
        let shards = shards.join(", ");
        let text =
            format!("no answer for these shards, and what waits there is not counted: {shards}");
        notes.push(note(Level::Bad, text));
    }
    if !fleet.silent.is_empty() {
        let nodes = one_line(&fleet.silent.join(", "));
        let text = format!("these nodes of the cluster do not answer: {nodes}");
        notes.push(note(Level::Bad, text));
    }
    for (agent, shard) in &fleet.unreadable {
        let text = format!(
            "what lies under the {agent}'s keys in shard {shard} is none of ours: `storyfleet doctor`"
        );
        notes.push(note(Level::Bad, text));
    }
    for row in &state.agents {
        of_agent(row, &mut notes);
    }
    notes.extend(state.workers.iter().filter_map(silent));
    for server in &state.servers {
        of_server(server, &mut notes);
    }
    for page in pages {
        if let Err(why) = &page.scrape {
            notes.push(note(
                Level::Warning,
                format!("{} does not answer: {why}", page.url),
            ));
        }
    }
    notes.sort_by_key(|note| note.level);
    notes
}

fn note(level: Level, text: String) -> Note {
    Note { level, text }
}

fn of_agent(row: &Row, notes: &mut Vec<Note>) {
    let Row {
        agent,
        waiting,
        in_flight,
        parked,
        dead,
        workers,
        ..
    } = row;
    if waiting + in_flight > 0 && *workers == Some(0) {
        let stories = waiting + in_flight;
        notes.push(note(
            Level::Bad,
            format!("no {agent} runs, and so many stories wait for one: {stories}"),
        ));
    } else if *waiting > 0 && workers.is_some() {
        let text = format!(
            "{agent}: {waiting} wait for a place, its workers hold {in_flight}: more workers help"
        );
        notes.push(note(Level::Warning, text));
    }
    if row.failed_per_s.is_some_and(|rate| rate > 0.0) {
        let text = format!("{agent}: turns fail now; `storyfleet dead list {agent}` says why");
        notes.push(note(Level::Bad, text));
    }
    if let Some(age) = row
        .oldest_ms
        .filter(|age| *age >= OLD_MS && *workers > Some(0))
    {
        let text = format!(
            "{agent}: the oldest is there for {}: a slow model, or it is tried again",
            words::time(Some(age))
        );
        notes.push(note(Level::Warning, text));
    }
    if *dead > 0 {
        let text = format!(
            "{agent}: {dead} given up on: `storyfleet dead list {agent}`, then `dead redrive`"
        );
        notes.push(note(Level::Warning, text));
    }
    if *parked > 0 {
        let count = words::at_least(*parked, row.parked_is_all);
        let text = format!(
            "{agent}: {count} wait behind their own story's turn: more workers do not help"
        );
        notes.push(note(Level::Info, text));
    }
}

/// A worker that holds events and is silent: the others take them over.
fn silent(worker: &Worker) -> Option<Note> {
    let Worker {
        agent,
        worker: name,
        in_flight,
        seen_ms,
        alive,
        ..
    } = worker;
    (*alive == Some(false) && *in_flight > 0).then(|| {
        let seen = words::time(Some(*seen_ms));
        note(
            Level::Bad,
            format!("{agent} {name}: silent for {seen}, {in_flight} in flight: others take over"),
        )
    })
}

fn of_server(server: &Server, notes: &mut Vec<Note>) {
    let name = if server.address.is_empty() {
        "Redis".to_owned()
    } else {
        format!("Redis {}", server.address)
    };
    if server.disk_failed {
        notes.push(note(
            Level::Bad,
            format!("{name} cannot write to its disk: its own log says what failed"),
        ));
    }
    if server.master_link == Some(false) {
        notes.push(note(
            Level::Bad,
            format!("{name} is a replica that does not hear its master"),
        ));
    }
    if let Some(limit) = server.memory_limit_bytes {
        let share = server.memory_bytes.saturating_mul(100) / limit.max(1);
        if share >= 90 {
            notes.push(note(
                Level::Bad,
                format!(
                    "{name} has {share} % of its maxmemory in use: full, it refuses every event"
                ),
            ));
        }
    }
}
