//! Looks in, state out: rates are what came between two looks, times what came to the histograms. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use ::story::Agent;
use bus::{Backlog, Fleet, ServerLoad};
use jiff::Timestamp;
use tokio::time::Instant;

use super::metrics::{Histogram, Scrape};
use super::notes::notes;
use super::source::Source;
use super::state::{Away, Readers, Row, Server, ShardRow, State, Worker};
use crate::output::one_line;

/// Rates are of so long at most, or from one look to the next where they are further apart.
const RATES: Duration = Duration::from_secs(10);
/// So are times of turns.
const TIMES: Duration = Duration::from_secs(60);

const TURNS: &str = "storyfleet_turn_seconds";
const FIRST_WORDS: &str = "storyfleet_first_words_seconds";
/// Every gateway has it, also before its first reader.
const GATEWAY: &str = "storyfleet_gateway_redis_up";
const CONNECTIONS: &str = "storyfleet_gateway_connections";

/// What was seen at one moment; for Redis that was not reached, why.
pub(crate) struct Look {
    pub(crate) at: Instant,
    pub(crate) time: Timestamp,
    pub(crate) fleet: Result<Fleet, Failure>,
    pub(crate) pages: Vec<Page>,
}

/// Why there are no figures of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Else it answers, and refuses.
    pub(crate) is_away: bool,
    /// Only another configuration helps.
    pub(crate) is_configuration: bool,
    pub(crate) why: String,
}

pub(crate) struct Page {
    pub(crate) url: String,
    pub(crate) scrape: Result<Scrape, String>,
}

pub(crate) struct Model {
    redis: String,
    past: VecDeque<Past>,
    fleet: Fleet,
    pages: Vec<Page>,
    time: Timestamp,
    away: Option<(Instant, Away)>,
    /// The first look since Redis was away.
    back: Option<Instant>,
}

/// What of a look is needed later.
struct Past {
    at: Instant,
    turns: BTreeMap<Agent, Turns>,
    times: HashMap<Place, Histogram>,
}

/// Of all shards.
#[derive(Debug, Clone, Copy, Default)]
struct Turns {
    ended: u64,
    buried: u64,
}

/// A histogram of an agent on a page.
type Place = (usize, Agent, &'static str);

impl Model {
    pub(super) fn new(source: &Source<'_>) -> Self {
        Self::of(source.redis())
    }

    pub(super) fn of(redis: String) -> Self {
        Self {
            redis,
            past: VecDeque::new(),
            fleet: Fleet::default(),
            pages: Vec::new(),
            time: Timestamp::UNIX_EPOCH,
            away: None,
            back: None,
        }
    }

    pub(super) fn take(&mut self, look: Look) {
        let Look {
            at,
            time,
            fleet,
            pages,
        } = look;
        let times = times(&pages);
        (self.pages, self.time) = (pages, time);
        match fleet {
            Ok(fleet) => {
                if self.away.take().is_some() {
                    self.back = Some(at);
                }
                let turns = turns(&fleet);
                self.fleet = fleet;
                self.past.push_back(Past { at, turns, times });
            }
            Err(Failure { is_away, why, .. }) => {
                let (since, first) = match &self.away {
                    Some((since, away)) => (*since, away.since),
                    None => (at, time),
                };
                let seconds = at.duration_since(since).as_secs();
                let away = Away {
                    since: first,
                    seconds,
                    reachable: !is_away,
                    why,
                };
                self.away = Some((since, away));
            }
        }
        // The first is the last of those that are old enough: whatever is between two looks, there are two.
        let is_old = |past: &Past| at.duration_since(past.at) >= TIMES;
        while self.past.len() > 2 && is_old(&self.past[1]) {
            self.past.pop_front();
        }
    }

    /// Times of turns are of the last minute.
    pub(super) fn state(&self) -> State {
        self.made(true)
    }

    /// Times of turns are of all that their workers ever did: two looks of a moment see none end.
    pub(super) fn whole(&self) -> State {
        self.made(false)
    }

    fn made(&self, recent: bool) -> State {
        let agents = Agent::ALL.map(|agent| self.row(agent, recent)).into();
        let shards = self.fleet.queues.iter().any(|queue| queue.shard > 0);
        let mut state = State {
            time: self.time,
            redis: self.redis.clone(),
            away: self.away.as_ref().map(|(_, away)| away.clone()),
            servers: self.fleet.servers.iter().map(server).collect(),
            agents,
            shards: if shards {
                self.fleet.queues.iter().map(shard).collect()
            } else {
                Vec::new()
            },
            workers: self
                .fleet
                .workers
                .iter()
                .map(|each| worker(each, self.is_unheard(each)))
                .collect(),
            readers: self.readers(),
            pages: self.pages.len(),
            notes: Vec::new(),
        };
        state.notes = notes(&state, &self.fleet, &self.pages);
        state
    }

    fn row(&self, agent: Agent, recent: bool) -> Row {
        let mine = || {
            self.fleet
                .queues
                .iter()
                .filter(|queue| queue.agent == agent)
        };
        let length: u64 = mine().map(|queue| queue.length).sum();
        let (answered_per_s, failed_per_s) = self.rates(agent).unzip();
        let turns = self.histogram(agent, TURNS, recent);
        let in_flight: u64 = mine().map(|queue| queue.in_flight).sum();
        Row {
            agent: agent.as_str(),
            answered_per_s,
            failed_per_s,
            turn_p50_s: turns.quantile(0.5),
            turn_p99_s: turns.quantile(0.99),
            first_words_p50_s: self.histogram(agent, FIRST_WORDS, recent).quantile(0.5),
            // The two were not asked for at one moment.
            waiting: length.saturating_sub(in_flight),
            in_flight,
            parked: mine().map(|queue| queue.parked.events).sum(),
            parked_is_all: mine().all(|queue| queue.parked.is_all),
            oldest_ms: mine().filter_map(|queue| queue.oldest).max().map(millis),
            dead: mine().map(|queue| queue.dead).sum(),
            workers: self.workers(agent, length),
        }
    }

    /// Those that were heard of; `None` where nobody can tell whether there are any.
    fn workers(&self, agent: Agent, length: u64) -> Option<u64> {
        let mine = || {
            let workers = self.fleet.workers.iter();
            workers.filter(|worker| worker.agent == agent)
        };
        let is_heard =
            |worker: &&bus::Worker| !self.is_unheard(worker) && worker.is_alive() == Some(true);
        match u64::try_from(mine().filter(is_heard).count()).unwrap_or(u64::MAX) {
            0 if mine().any(|worker| self.is_unheard(worker)) => None,
            0 if length == 0 && !self.fleet.tells_idle => None,
            alive => Some(alive),
        }
    }

    fn is_unheard(&self, worker: &bus::Worker) -> bool {
        let back = self.back.zip(self.past.back());
        worker.is_unheard(back.map(|(back, last)| last.at.duration_since(back)))
    }

    /// Turns answered and failed in a second; `None` until there were two looks, or when a stream began anew. None of what
    /// came while Redis was away.
    fn rates(&self, agent: Agent) -> Option<(f64, f64)> {
        let last = self.past.back()?;
        let seen = self.past.iter().rev().skip(1);
        let mut seen = seen.take_while(|past| self.back.is_none_or(|back| past.at >= back));
        let before = seen.next()?;
        let is_young = |past: &&Past| last.at.duration_since(past.at) <= RATES;
        let first = seen.take_while(is_young).last().unwrap_or(before);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let (is, was) = (last.turns.get(&agent)?, first.turns.get(&agent)?);
        let ended = is.ended.checked_sub(was.ended)?;
        let failed = is.buried.checked_sub(was.buried)?;
        let rate = |count: u64| count as f64 / seconds;
        (seconds > 0.0).then(|| (rate(ended.saturating_sub(failed)), rate(failed)))
    }

    fn histogram(&self, agent: Agent, name: &'static str, recent: bool) -> Histogram {
        let mut all = Histogram::default();
        for (at, page) in self.pages.iter().enumerate() {
            let scrape = page.scrape.as_ref().ok();
            let Some(now) = scrape.and_then(|scrape| scrape.histogram(name, agent.as_str())) else {
                continue;
            };
            let place = (at, agent, name);
            let mut earlier = self.past.iter().filter_map(|past| past.times.get(&place));
            let earlier = earlier.next().filter(|_| recent);
            all.add(&now.since(earlier));
        }
        all
    }

    fn readers(&self) -> Option<Readers> {
        let mut readers = Readers::default();
        for scrape in self
            .pages
            .iter()
            .filter_map(|page| page.scrape.as_ref().ok())
        {
            readers.gateways += u64::from(scrape.has(GATEWAY));
            for (transport, count) in scrape.by(CONNECTIONS, "transport") {
                let counted = match transport {
                    "websocket" => &mut readers.websocket,
                    "sse" => &mut readers.sse,
                    _ => continue,
                };
                *counted += whole_number(count);
            }
        }
        (readers.gateways > 0).then_some(readers)
    }
}

fn turns(fleet: &Fleet) -> BTreeMap<Agent, Turns> {
    let mut turns = BTreeMap::<Agent, Turns>::new();
    for queue in &fleet.queues {
        let of_agent = turns.entry(queue.agent).or_default();
        of_agent.ended += queue.ended;
        of_agent.buried += queue.buried;
    }
    turns
}

fn times(pages: &[Page]) -> HashMap<Place, Histogram> {
    let mut times = HashMap::new();
    for (at, page) in pages.iter().enumerate() {
        let Ok(scrape) = &page.scrape else { continue };
        for agent in Agent::ALL {
            for name in [TURNS, FIRST_WORDS] {
                let found = scrape.histogram(name, agent.as_str());
                times.extend(found.map(|histogram| ((at, agent, name), histogram)));
            }
        }
    }
    times
}

fn shard(queue: &Backlog) -> ShardRow {
    ShardRow {
        agent: queue.agent.as_str(),
        shard: queue.shard,
        waiting: queue.length.saturating_sub(queue.in_flight),
        in_flight: queue.in_flight,
        parked: queue.parked.events,
        parked_is_all: queue.parked.is_all,
        oldest_ms: queue.oldest.map(millis),
        dead: queue.dead,
    }
}

fn worker(worker: &bus::Worker, is_unheard: bool) -> Worker {
    Worker {
        agent: worker.agent.as_str(),
        worker: one_line(&worker.consumer),
        in_flight: worker.in_flight,
        quiet_ms: worker.quiet.map(millis),
        seen_ms: millis(worker.seen),
        alive: worker.is_alive().filter(|_| !is_unheard),
        unheard: is_unheard,
    }
}

fn server(load: &ServerLoad) -> Server {
    Server {
        address: one_line(&load.address),
        software: load.software,
        version: one_line(&load.version),
        role: one_line(&load.role),
        memory_bytes: load.memory,
        memory_limit_bytes: load.memory_limit,
        commands_per_s: load.commands_per_second,
        clients: load.clients,
        replicas: load.replicas,
        behind_bytes: load.behind,
        master_link: load.master_link,
        disk_failed: load.disk_failed,
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Of a gauge that counts; what is none counts as nothing.
fn whole_number(value: f64) -> u64 {
    // A cast of a negative number or of NaN is 0.
    value as u64
}
