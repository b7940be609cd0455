//! What was measured, as it is told: figures for programs, a table and the targets for people.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use super::backlog::Worked;
use super::latency::Waits;
use super::stage::Side;

/// What one side did.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Speed {
    pub(super) events_per_s: f64,
    /// Of the process; the others are what the side made Redis and the model use.
    pub(super) cpu_s_per_1000: f64,
    pub(super) redis_cpu_s_per_1000: f64,
    pub(super) model_cpu_s_per_1000: f64,
    pub(super) prompt_tokens: f64,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Sides<T> {
    pub(super) floor: T,
    pub(super) fleet: T,
}

impl<T> Sides<T> {
    pub(super) fn of(&mut self, side: Side) -> &mut T {
        match side {
            Side::Floor => &mut self.floor,
            Side::Fleet => &mut self.fleet,
        }
    }
}

/// What it costs to record turns.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Recording {
    pub(super) without: Speed,
    pub(super) with: Speed,
    /// Events per second with it to those without.
    pub(super) ratio: f64,
    pub(super) bytes_per_event: f64,
}

impl Recording {
    pub(super) fn of(without: &[Worked], with: &[Worked]) -> Self {
        let bytes = median(with.iter().map(|worked| worked.recording));
        let (without, with) = (Speed::of(without), Speed::of(with));
        Self {
            ratio: with.events_per_s / without.events_per_s,
            without,
            with,
            bytes_per_event: bytes,
        }
    }

    fn row(&self, name: &str) -> String {
        let (without, with) = (
            figure(self.without.events_per_s),
            figure(self.with.events_per_s),
        );
        format!(
            "{name:<44}{without:>10}{with:>10}{:>8.2}   {:.0} bytes an event",
            self.ratio, self.bytes_per_event
        )
    }
}

/// MB of 10^6 bytes, of the worker.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    /// Before the first event, and after the last.
    pub(super) idle: f64,
    pub(super) rested: f64,
    pub(super) peak: f64,
    pub(super) inflight_1000: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Inflight {
    pub(super) ideal_per_s: f64,
    pub(super) floor_per_s: f64,
    pub(super) fleet_per_s: f64,
    /// In hand on average: fewer than the ideal when the machine is too slow.
    pub(super) floor_mean: f64,
    pub(super) fleet_mean: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) goal: f64,
    pub(super) measured: f64,
    pub(super) reached: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    pub(super) speed: Sides<Speed>,
    /// Events per second of the worker to those of the bare loop.
    pub(super) ratio: f64,
    /// Of stories whose histories are long; the bare loop's prompts are as long, but it reads and renders none.
    pub(super) long: Sides<Speed>,
    /// Of answers that come word by word; the bare loop shows no drafts.
    pub(super) streamed: Sides<Speed>,
    /// Of young stories and of long ones.
    pub(super) recording: [Recording; 2],
    pub(super) latency_ms: Sides<Latency>,
    /// Of the worker's reads of a story's context at 200/s, the 99th percentile.
    pub(super) context_ms: f64,
    /// Of the worker.
    pub(super) cpu_s_per_1000: f64,
    pub(super) rss_mb: Memory,
    pub(super) inflight: Inflight,
    /// Of the rate that calls of that length allow.
    pub(super) inflight_ratio: f64,
    pub(super) targets: Vec<Target>,
    pub(super) rounds: usize,
    pub(super) events: usize,
    pub(super) cpus: usize,
}

impl Speed {
    /// The median of each figure.
    pub(super) fn of(rounds: &[Worked]) -> Self {
        let of = |figure: fn(&Worked) -> f64| median(rounds.iter().map(figure));
        Self {
            events_per_s: of(|worked| worked.events_per_s),
            cpu_s_per_1000: of(|worked| worked.cpu),
            redis_cpu_s_per_1000: of(|worked| worked.redis_cpu),
            model_cpu_s_per_1000: of(|worked| worked.model_cpu),
            prompt_tokens: of(|worked| worked.prompt),
        }
    }
}

impl Latency {
    /// The medians of the rounds' percentiles.
    pub(super) fn of(rounds: &[Waits]) -> Self {
        let of = |share: f64| median(rounds.iter().map(|round| percentile(&round.waits, share)));
        Self {
            p50: of(0.50),
            p99: of(0.99),
        }
    }
}

impl Report {
    pub(super) fn judge(&mut self) {
        let at_least = |name, goal, measured| Target {
            name,
            goal,
            measured,
            reached: measured >= goal,
        };
        let at_most = |name, goal, measured| Target {
            name,
            goal,
            measured,
            reached: measured <= goal,
        };
        let later = self.latency_ms.fleet.p99 - self.latency_ms.floor.p99;
        self.targets = vec![
            at_least("events/s of the bare loop's, at least", 0.7, self.ratio),
            at_least(
                "events/s with recordings of those without, at least",
                0.9,
                self.recording[0].ratio,
            ),
            at_most(
                "p99 at 200/s beyond the bare loop's, ms, at most",
                5.0,
                later,
            ),
            at_most(
                "p99 of a context's read at 200/s, ms, at most",
                3.0,
                self.context_ms,
            ),
            at_most(
                "idle worker, before or after its events, MB, at most",
                20.0,
                self.rss_mb.idle.max(self.rss_mb.rested),
            ),
            at_most(
                "1,000 calls in flight, MB, at most",
                120.0,
                self.rss_mb.inflight_1000,
            ),
            at_least(
                "1,000 in flight, of the ideal rate, at least",
                0.9,
                self.inflight_ratio,
            ),
        ];
    }

    pub(super) fn text(&self) -> String {
        let (floor, fleet) = (&self.speed.floor, &self.speed.fleet);
        let (bare, worker) = (&self.latency_ms.floor, &self.latency_ms.fleet);
        let (long, streamed) = (&self.long, &self.streamed);
        let calls = &self.inflight;
        let mut lines = vec![
            format!("{:<44}{:>10}{:>10}{:>8}", "", "bare", "worker", "ratio"),
            row("events/s", floor.events_per_s, fleet.events_per_s),
            row(
                "CPU s per 1,000 events",
                floor.cpu_s_per_1000,
                fleet.cpu_s_per_1000,
            ),
            row(
                "  of Redis",
                floor.redis_cpu_s_per_1000,
                fleet.redis_cpu_s_per_1000,
            ),
            row(
                "  of the mock model",
                floor.model_cpu_s_per_1000,
                fleet.model_cpu_s_per_1000,
            ),
            row("prompt, tokens", floor.prompt_tokens, fleet.prompt_tokens),
            row(
                "events/s, long histories",
                long.floor.events_per_s,
                long.fleet.events_per_s,
            ),
            row(
                "CPU s per 1,000 events, words one by one",
                streamed.floor.cpu_s_per_1000,
                streamed.fleet.cpu_s_per_1000,
            ),
            row(
                "  of Redis",
                streamed.floor.redis_cpu_s_per_1000,
                streamed.fleet.redis_cpu_s_per_1000,
            ),
            row("publish to commit at 200/s, p50, ms", bare.p50, worker.p50),
            row("publish to commit at 200/s, p99, ms", bare.p99, worker.p99),
            row(
                "1,000 in flight of 200 ms, events/s",
                calls.floor_per_s,
                calls.fleet_per_s,
            ),
            row("  in hand on average", calls.floor_mean, calls.fleet_mean),
            format!(
                "worker's memory, MB: before work {:.1}, after it {:.1}, peak at full speed {:.1}, 1,000 in flight {:.1}",
                self.rss_mb.idle, self.rss_mb.rested, self.rss_mb.peak, self.rss_mb.inflight_1000
            ),
        ];
        lines.extend(self.recordings());
        lines.push(String::new());
        lines.extend(self.targets.iter().map(Target::line));
        lines.push(format!(
            "{} rounds of {} events on {} CPUs; medians",
            self.rounds, self.events, self.cpus
        ));
        lines.join("\n")
    }

    fn recordings(&self) -> [String; 5] {
        let [young, long] = &self.recording;
        let cpu = |of: &Recording| {
            let [off, on] = [of.without, of.with].map(|speed| speed.cpu_s_per_1000);
            row("    CPU s per 1,000 events", off, on)
        };
        [
            format!(
                "{:<44}{:>10}{:>10}{:>8}",
                "recordings, events/s", "off", "on", "ratio"
            ),
            young.row("  young stories"),
            cpu(young),
            long.row("  long histories"),
            cpu(long),
        ]
    }
}

impl Target {
    fn line(&self) -> String {
        let word = if self.reached { "reached" } else { "SHORT" };
        format!(
            "{word:<8} {} {}: {}",
            self.name,
            self.goal,
            figure(self.measured)
        )
    }
}

fn row(name: &str, floor: f64, fleet: f64) -> String {
    let (bare, worker) = (figure(floor), figure(fleet));
    format!("{name:<44}{bare:>10}{worker:>10}{:>8.2}", fleet / floor)
}

/// Three digits that count.
pub(super) fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// The middle one, or the mean of the two in the middle; 0 of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(upper) if values.len() % 2 == 1 => *upper,
        Some(upper) => f64::midpoint(values[middle - 1], *upper),
    }
}

/// The smallest wait, in milliseconds, that at least `share` of them do not pass. `sorted` is ascending; 0 of nothing.
pub(super) fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    let wait = sorted.get(rank - 1).copied().unwrap_or_default();
    wait.as_secs_f64() * 1e3
}
