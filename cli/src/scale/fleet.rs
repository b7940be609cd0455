//! Workers over a day, event by event: pods that start and drain, places that are free or taken, calls that take their time,
//! and who decides how many workers there are. The same seed gives the same day, whatever the signal. Times in ms.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::control::Control;
use super::load::Load;
use super::stream::{Entry, EventAt, Stream};
use super::tally::{Minute, Tally};
use crate::args::Signal;
use crate::scale::keda::Scaler;

pub(crate) const MINUTE: u64 = 60_000;
/// After the load's end what is still there is answered, or not: a signal may forget it.
const AFTERMATH: u64 = 60 * MINUTE;
/// The 99th percentile of the normal distribution.
const Z99: f64 = 2.326_347_874;

/// Everything but the load.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) scaler: Scaler,
    pub(crate) signal: Signal,
    pub(crate) seed: u64,
    pub(crate) stories: u32,
    pub(crate) concurrency: u32,
    pub(crate) call_p50: u64,
    pub(crate) call_p99: u64,
    pub(crate) pod_start: u64,
    pub(crate) drain: u64,
    /// In µs.
    pub(crate) cpu_per_event: u64,
}

/// Who was published when, and how long its call takes.
#[derive(Debug, Clone, Copy)]
struct Event {
    published: u64,
    takes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The delivery of that number ended.
    Done {
        flight: usize,
    },
    Ready {
        worker: usize,
    },
    /// Its time to finish is over.
    Drained {
        worker: usize,
    },
    Sync,
    Poll,
    /// A minute is over.
    Minute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Ready,
    Draining,
    Gone,
}

#[derive(Debug)]
struct Worker {
    state: State,
    busy: u32,
    /// Stands in line for work.
    in_line: bool,
    /// Flights that began here, those that ended too until the next is begun.
    flights: Vec<usize>,
}

/// One delivery.
#[derive(Debug)]
struct Flight {
    entry: Entry,
    worker: usize,
    over: bool,
}

pub(crate) struct Fleet<'a> {
    settings: &'a Settings,
    now: u64,
    random: Xoshiro256PlusPlus,
    agenda: BinaryHeap<Reverse<(u64, u64, What)>>,
    /// Breaks ties on the agenda: first come, first served.
    steps: u64,
    stream: Stream,
    events: Vec<Event>,
    workers: Vec<Worker>,
    flights: Vec<Flight>,
    line: VecDeque<usize>,
    control: Control,
    tally: Tally,
}

/// Plays the load. What it gives is whole: nothing in it depends on this machine or this moment.
pub(crate) fn play(load: &Load, settings: &Settings) -> Tally {
    let mut fleet = Fleet::new(settings, load.0.len());
    for (minute, count) in (0_u64..).zip(&load.0) {
        let mut moments: Vec<u64> = (0..*count)
            .map(|_| minute * MINUTE + fleet.random.random_range(0..MINUTE))
            .collect();
        moments.sort_unstable();
        for moment in moments {
            fleet.run_until(moment);
            fleet.arrive(moment);
        }
    }
    let end = MINUTE * u64::try_from(load.0.len()).unwrap_or(u64::MAX);
    fleet.run_until(end);
    fleet.tally.load_ends();
    let mut at = end;
    while fleet.stream.work() + fleet.stream.parked() > 0 && at < end + AFTERMATH {
        at += MINUTE;
        fleet.run_until(at);
    }
    fleet.tally
}

impl<'a> Fleet<'a> {
    fn new(settings: &'a Settings, minutes: usize) -> Self {
        let mut fleet = Self {
            settings,
            now: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(settings.seed),
            agenda: BinaryHeap::new(),
            steps: 0,
            stream: Stream::default(),
            events: Vec::new(),
            workers: Vec::new(),
            flights: Vec::new(),
            line: VecDeque::new(),
            control: Control::new(&settings.scaler, settings.signal),
            tally: Tally::new(minutes, settings.concurrency),
        };
        for _ in 0..settings.scaler.min {
            fleet.start_worker(0);
        }
        fleet.plan(0, What::Poll);
        fleet.plan(super::hpa::SYNC, What::Sync);
        fleet.plan(MINUTE, What::Minute);
        fleet
    }

    fn plan(&mut self, at: u64, what: What) {
        self.steps += 1;
        self.agenda.push(Reverse((at, self.steps, what)));
    }

    /// All that is due up to `until`.
    fn run_until(&mut self, until: u64) {
        while let Some(Reverse((at, _, what))) = self.agenda.peek().copied() {
            if at > until {
                break;
            }
            self.agenda.pop();
            self.pass(at);
            self.step(what);
        }
        self.pass(until);
    }

    fn pass(&mut self, now: u64) {
        let paid = self.workers.len() - self.control.gone;
        self.tally
            .passed(now - self.now, paid, self.stream.in_flight());
        self.now = now;
    }

    fn step(&mut self, what: What) {
        match what {
            What::Done { flight } => self.done(flight),
            What::Ready { worker } => self.ready(worker),
            What::Drained { worker } => self.drained(worker),
            What::Sync => {
                self.plan(self.now + super::hpa::SYNC, What::Sync);
                let ready = self.count(State::Ready);
                let starting = self.count(State::Starting);
                let used = self.control.used(ready);
                let wanted = self
                    .control
                    .sync(self.now, &self.stream, (ready, starting), used);
                self.scale(wanted);
            }
            What::Poll => {
                self.plan(self.now + self.settings.scaler.poll, What::Poll);
                let replicas = self.count(State::Ready) + self.count(State::Starting);
                let wanted = self.control.poll(self.now, &self.stream, replicas);
                self.scale(wanted);
            }
            What::Minute => {
                self.plan(self.now + MINUTE, What::Minute);
                self.tally.minute(Minute {
                    ready: self.count(State::Ready),
                    starting: self.count(State::Starting),
                    draining: self.count(State::Draining),
                    waiting: self.stream.waiting(),
                    in_flight: self.stream.in_flight(),
                    parked: self.stream.parked(),
                });
            }
        }
    }

    fn arrive(&mut self, now: u64) {
        let event = self.events.len() as EventAt;
        let story = self.random.random_range(0..self.settings.stories);
        let takes = self.call();
        self.events.push(Event {
            published: now,
            takes,
        });
        self.tally.published();
        if self.stream.publish(event, story) {
            self.tally.admitted(event, now);
        }
        self.give();
    }

    /// Log-normal: many short calls, some long ones.
    fn call(&mut self) -> u64 {
        let (half, most) = (self.settings.call_p50 as f64, self.settings.call_p99 as f64);
        let sigma = (most / half).ln() / Z99;
        // Box and Muller's; the first draw is above 0.
        let (u, v): (f64, f64) = (1.0 - self.random.random::<f64>(), self.random.random());
        let normal = (-2.0 * u.ln()).sqrt() * (v * std::f64::consts::TAU).cos();
        ((half * (sigma * normal).exp()).round() as u64).max(1)
    }

    /// Whoever stands first in line is given the oldest that waits.
    fn give(&mut self) {
        while self.stream.waiting() > 0
            && let Some(worker) = self.line.pop_front()
        {
            self.workers[worker].in_line = false;
            if self.workers[worker].state != State::Ready {
                continue;
            }
            let Some(entry) = self.stream.take() else {
                return;
            };
            let flight = self.flights.len();
            self.flights.push(Flight {
                entry,
                worker,
                over: false,
            });
            self.workers[worker].busy += 1;
            self.workers[worker].flights.push(flight);
            let event = self.events[entry.event as usize];
            self.tally.taken(entry.event, self.now);
            self.plan(self.now + event.takes, What::Done { flight });
            self.stand_in_line(worker);
        }
    }

    fn stand_in_line(&mut self, worker: usize) {
        let concurrency = self.settings.concurrency;
        let each = &mut self.workers[worker];
        if each.state == State::Ready && each.busy < concurrency && !each.in_line {
            each.in_line = true;
            self.line.push_back(worker);
        }
    }

    fn done(&mut self, flight: usize) {
        let Flight {
            entry,
            worker,
            over,
        } = self.flights[flight];
        if over {
            return;
        }
        self.flights[flight].over = true;
        self.control.worked(self.settings.cpu_per_event);
        let event = self.events[entry.event as usize];
        self.tally.answered(entry, self.now - event.published);
        if let Some(next) = self.stream.end(entry.id) {
            self.tally.admitted(next, self.now);
        }
        self.vacate(worker);
        self.give();
    }

    /// One place of it is free again.
    fn vacate(&mut self, worker: usize) {
        let flights = &self.flights;
        let each = &mut self.workers[worker];
        each.busy -= 1;
        each.flights.retain(|flight| !flights[*flight].over);
        if each.state == State::Draining && each.busy == 0 {
            each.state = State::Gone;
            self.control.gone += 1;
        }
        self.stand_in_line(worker);
    }

    fn ready(&mut self, worker: usize) {
        if self.workers[worker].state == State::Starting {
            self.workers[worker].state = State::Ready;
            self.stand_in_line(worker);
            self.give();
        }
    }

    /// It gives back what it could not finish, uncharged: another begins it anew.
    fn drained(&mut self, worker: usize) {
        for flight in std::mem::take(&mut self.workers[worker].flights) {
            let Flight { entry, over, .. } = &mut self.flights[flight];
            if !std::mem::replace(over, true) {
                self.stream.release(entry.id);
                self.tally.released();
                self.vacate(worker);
            }
        }
        self.give();
    }

    fn scale(&mut self, wanted: u32) {
        let replicas = self.count(State::Ready) + self.count(State::Starting);
        for _ in replicas..wanted {
            self.start_worker(self.settings.pod_start);
        }
        for _ in wanted..replicas {
            self.send_away();
        }
        self.tally.wanted(wanted);
    }

    fn start_worker(&mut self, takes: u64) {
        let worker = self.workers.len();
        self.workers.push(Worker {
            state: State::Starting,
            busy: 0,
            in_line: false,
            flights: Vec::new(),
        });
        self.plan(self.now + takes, What::Ready { worker });
    }

    /// One that is not ready, else the youngest: as a ReplicaSet chooses
    /// (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset>).
    fn send_away(&mut self) {
        let youngest = |state| self.workers.iter().rposition(|each| each.state == state);
        let Some(worker) = youngest(State::Starting).or_else(|| youngest(State::Ready)) else {
            return;
        };
        let each = &mut self.workers[worker];
        if each.busy == 0 {
            each.state = State::Gone;
            self.control.gone += 1;
        } else {
            each.state = State::Draining;
            self.plan(self.now + self.settings.drain, What::Drained { worker });
        }
    }

    fn count(&self, state: State) -> u32 {
        self.workers
            .iter()
            .filter(|each| each.state == state)
            .count() as u32
    }
}
