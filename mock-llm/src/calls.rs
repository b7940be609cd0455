//! What was asked and how it ended, by agent and by event, in bounded memory. Also the count of tries:
//! the nth call of one event, whatever else is asked at the same time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// Events remembered; the oldest is forgotten first, and its next call counts as its first.
const EVENTS: usize = 20_000;
/// Agents counted by name; those that come after them count as `other`.
const AGENTS: usize = 64;
/// Rows of a report, unless it is asked for fewer or more.
const ROWS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endpoint {
    Chat,
    Moderations,
}

#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Ledger>);

/// A call under way. When it is dropped its outcome is recorded.
#[derive(Debug)]
pub(crate) struct Call {
    calls: Arc<Calls>,
    /// `cancelled` until something else is known: then the caller hung up.
    pub(crate) outcome: &'static str,
    /// The nth call of the same key, from 1.
    pub(crate) attempt: u32,
    /// Of the endpoint, the agent and the event, or the body when no event is named.
    pub(crate) key: u64,
    agent: Box<str>,
}

/// Which rows to report.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    agent: Option<String>,
    event: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    total: u64,
    in_flight: u64,
    /// Events no longer remembered.
    forgotten: u64,
    outcomes: Outcomes,
    agents: BTreeMap<Box<str>, Outcomes>,
    events: Vec<Row>,
}

type Outcomes = BTreeMap<&'static str, u64>;

#[derive(Debug, Clone, Serialize)]
struct Row {
    endpoint: Endpoint,
    agent: Box<str>,
    event: Box<str>,
    attempts: u32,
    outcomes: Outcomes,
}

#[derive(Debug, Default)]
struct Ledger {
    total: u64,
    in_flight: u64,
    forgotten: u64,
    agents: BTreeMap<Box<str>, Outcomes>,
    rows: HashMap<u64, Row>,
    oldest_first: VecDeque<u64>,
}

impl Calls {
    /// `body` tells apart calls that name no event.
    pub(crate) fn begin(
        self: &Arc<Self>,
        endpoint: Endpoint,
        agent: &str,
        event: &str,
        body: &[u8],
    ) -> Call {
        let tell = if event.is_empty() {
            body
        } else {
            event.as_bytes()
        };
        let kind = [endpoint as u8, u8::from(event.is_empty())];
        let key = Dice::of(0, &[&kind, agent.as_bytes(), tell]).roll();
        let row = || Row {
            endpoint,
            agent: agent.into(),
            event: event.into(),
            attempts: 0,
            outcomes: Outcomes::new(),
        };
        Call {
            calls: Arc::clone(self),
            outcome: "cancelled",
            attempt: self.ledger().begin(key, row),
            key,
            agent: agent.into(),
        }
    }

    pub(crate) fn report(&self, filter: &Filter) -> Report {
        let ledger = self.ledger();
        let rows = ledger.oldest_first.iter().map(|key| &ledger.rows[key]);
        let mut outcomes = Outcomes::new();
        for (outcome, count) in ledger.agents.values().flatten() {
            *outcomes.entry(outcome).or_default() += count;
        }
        Report {
            total: ledger.total,
            in_flight: ledger.in_flight,
            forgotten: ledger.forgotten,
            outcomes,
            agents: ledger.agents.clone(),
            events: rows
                .filter(|row| filter.admits(row))
                .take(filter.limit.unwrap_or(ROWS))
                .cloned()
                .collect(),
        }
    }

    /// Forgets all but the calls under way.
    pub(crate) fn reset(&self) {
        let mut ledger = self.ledger();
        *ledger = Ledger {
            in_flight: ledger.in_flight,
            ..Ledger::default()
        };
    }

    /// A panic while counting leaves counts that are still counts.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.ledger().end(self);
    }
}

impl Filter {
    fn admits(&self, row: &Row) -> bool {
        let same = |wanted: &Option<String>, seen: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == seen)
        };
        same(&self.agent, &row.agent) && same(&self.event, &row.event)
    }
}

impl Ledger {
    fn begin(&mut self, key: u64, row: impl FnOnce() -> Row) -> u32 {
        self.total += 1;
        self.in_flight += 1;
        if !self.rows.contains_key(&key) {
            self.remember(key, row());
        }
        let Some(row) = self.rows.get_mut(&key) else {
            return 1;
        };
        row.attempts += 1;
        row.attempts
    }

    fn remember(&mut self, key: u64, row: Row) {
        if self.oldest_first.len() == EVENTS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.rows.remove(&oldest);
            self.forgotten += 1;
        }
        self.oldest_first.push_back(key);
        self.rows.insert(key, row);
    }

    fn end(&mut self, call: &Call) {
        self.in_flight -= 1;
        if let Some(row) = self.rows.get_mut(&call.key) {
            *row.outcomes.entry(call.outcome).or_default() += 1;
        }
        let known = self.agents.len() < AGENTS || self.agents.contains_key(&call.agent);
        let agent = if known { &*call.agent } else { "other" };
        if !self.agents.contains_key(agent) {
            self.agents.insert(agent.into(), Outcomes::new());
        }
        if let Some(outcomes) = self.agents.get_mut(agent) {
            *outcomes.entry(call.outcome).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_counted_per_endpoint_agent_and_event() {
        let calls = Arc::new(Calls::default());
        let attempt =
            |endpoint, agent, event, body: &[u8]| calls.begin(endpoint, agent, event, body).attempt;
        assert_eq!(attempt(Endpoint::Chat, "narrator", "e1", b"x"), 1);
        assert_eq!(attempt(Endpoint::Chat, "narrator", "e1", b"other body"), 2);
        assert_eq!(attempt(Endpoint::Chat, "narrator", "e2", b"x"), 1);
        assert_eq!(attempt(Endpoint::Chat, "moderator", "e1", b"x"), 1);
        assert_eq!(attempt(Endpoint::Moderations, "narrator", "e1", b"x"), 1);
        assert_eq!(attempt(Endpoint::Chat, "narrator", "", b"x"), 1);
        assert_eq!(attempt(Endpoint::Chat, "narrator", "", b"x"), 2);
    }

    #[test]
    fn memory_is_bounded_and_totals_stay_exact() {
        let calls = Arc::new(Calls::default());
        for n in 0..EVENTS + 100 {
            let (agent, event) = (format!("agent {}", n % 100), n.to_string());
            calls.begin(Endpoint::Chat, &agent, &event, b"").outcome = "ok";
        }
        let report = calls.report(&Filter::default());
        assert_eq!((report.total, report.forgotten), (EVENTS as u64 + 100, 100));
        assert_eq!(report.outcomes["ok"], report.total);
        assert_eq!(report.agents.len(), AGENTS + 1);
        assert_eq!(calls.ledger().rows.len(), EVENTS);
    }

    #[test]
    fn a_call_is_in_flight_until_it_is_dropped() {
        let calls = Arc::new(Calls::default());
        let call = calls.begin(Endpoint::Chat, "a", "e", b"");
        calls.reset();
        assert_eq!(calls.report(&Filter::default()).in_flight, 1);
        drop(call);
        let report = calls.report(&Filter::default());
        assert_eq!((report.in_flight, report.outcomes["cancelled"]), (0, 1));
    }
}
