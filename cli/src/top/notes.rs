//! Why it is as it is, and what to do about it: what an operator would look for in the figures.

use bus::{Fleet, Open};

use super::model::{Page, millis};
use super::state::{Level, Note, Row, Server, State, Worker};
use super::words;
use crate::output::one_line;
use crate::target::without_password;

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
    notes.extend(fleet.open.iter().map(left_alone));
    for row in &state.agents {
        notes.extend(waiting(row, !fleet.open.is_empty()));
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

/// Its calls go to another model, if there is one. A worker whose models all fail takes no events.
fn left_alone(open: &Open) -> Note {
    let since = words::time(Some(millis(open.since)));
    let (at, model) = open.model.split_once(' ').unwrap_or_default();
    // Behind the name is whose key it is.
    let name = model.rsplit_once(' ').map_or(model, |(name, _)| name);
    let at = without_password(at);
    let text = one_line(&format!(
        "a model fails and is left alone for {since}: {name} at {at}"
    ));
    note(Level::Warning, text)
}

/// Why there are events that no worker has taken. `models_fail`: which agents ask them is not told; whoever takes no events
/// since all of its models fail is not heard of either.
fn waiting(row: &Row, models_fail: bool) -> Option<Note> {
    let Row {
        agent,
        waiting,
        in_flight,
        workers,
        ..
    } = row;
    let stories = waiting + in_flight;
    let rates = row.answered_per_s.zip(row.failed_per_s);
    let turns_fail = rates.is_some_and(|(answered, failed)| failed > answered);
    let (level, text) = match (*workers)? {
        0 if stories > 0 && models_fail => (
            Level::Bad,
            format!("no {agent} runs, or all its models fail: {stories} wait"),
        ),
        0 if stories > 0 => (
            Level::Bad,
            format!("no {agent} runs, and so many stories wait for one: {stories}"),
        ),
        _ if *waiting == 0 => return None,
        _ if models_fail && *in_flight == 0 => (
            Level::Bad,
            format!("{agent}: {waiting} wait for models that fail: more workers do not help"),
        ),
        _ if models_fail || turns_fail => (
            Level::Warning,
            format!(
                "{agent}: {waiting} wait for a place, its workers hold {in_flight}: first see to what fails"
            ),
        ),
        _ => (
            Level::Warning,
            format!(
                "{agent}: {waiting} wait for a place, its workers hold {in_flight}: more workers help"
            ),
        ),
    };
    Some(note(level, text))
}

fn of_agent(row: &Row, notes: &mut Vec<Note>) {
    let Row {
        agent,
        parked,
        dead,
        workers,
        ..
    } = row;
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
