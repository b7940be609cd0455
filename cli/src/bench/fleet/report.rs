//! What a fleet did, as it is told: figures for programs, tables for people.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bench::report::{Speed, figure};

/// Of one shard's events in a second, what many must reach.
const KEPT: f64 = 0.9;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) shards: Shards,
    pub(super) scale: Vec<Scale>,
    pub(super) memory: Memory,
    pub(super) cpus: usize,
    pub(super) seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Shards {
    pub(super) shards: u16,
    pub(super) one: Speed,
    pub(super) many: Speed,
    /// Events per second with many to those with one.
    pub(super) ratio: f64,
}

/// So many workers and two gateways on one Redis.
#[derive(Debug, Serialize)]
pub(super) struct Scale {
    pub(super) workers: usize,
    #[serde(flatten)]
    pub(super) speed: Speed,
    pub(super) gateways_cpu_s_per_1000: f64,
    /// That readers were given.
    pub(super) frames: f64,
}

/// Bytes of a story.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    pub(super) stories: usize,
    pub(super) turns: usize,
    /// Of Redis's used_memory, as it is made and after its turns.
    pub(super) made: f64,
    pub(super) told: f64,
    /// Of the keys that a story has then, by MEMORY USAGE.
    pub(super) keys: BTreeMap<&'static str, f64>,
}

impl Shards {
    pub(super) fn new(shards: u16, one: Speed, many: Speed) -> Self {
        Self {
            shards,
            ratio: many.events_per_s / one.events_per_s,
            one,
            many,
        }
    }

    fn lines(&self) -> [String; 4] {
        let Self {
            shards, one, many, ..
        } = self;
        let row = |name: &str, of: fn(&Speed) -> f64| {
            let (one, many) = (of(one), of(many));
            let (ratio, one, many) = (many / one, figure(one), figure(many));
            format!("{name:<44}{one:>10}{many:>10}{ratio:>8.2}")
        };
        let word = if self.ratio >= KEPT {
            "reached"
        } else {
            "SHORT"
        };
        [
            format!(
                "{:<44}{:>10}{:>10}{:>8}",
                "one worker",
                "1 shard",
                format!("{shards} shards"),
                "ratio"
            ),
            row("events/s", |speed| speed.events_per_s),
            row("CPU s of Redis per 1,000 events", |speed| {
                speed.redis_cpu_s_per_1000
            }),
            format!(
                "{word:<8} events/s of those with one shard, at least {KEPT}: {}",
                figure(self.ratio)
            ),
        ]
    }
}

impl Scale {
    /// Cores in use: of Redis, the workers, the gateways and the model.
    fn cores(&self) -> [f64; 4] {
        let speed = &self.speed;
        let per_1000 = [
            speed.redis_cpu_s_per_1000,
            speed.cpu_s_per_1000,
            self.gateways_cpu_s_per_1000,
            speed.model_cpu_s_per_1000,
        ];
        per_1000.map(|cpu| cpu * speed.events_per_s / 1_000.0)
    }

    /// What one core gives to Redis's one thread, if nothing else is short.
    fn redis_full(&self) -> f64 {
        1_000.0 / self.speed.redis_cpu_s_per_1000
    }

    fn line(&self) -> String {
        let cores = self.cores().map(|cores| format!("{cores:>9.2}")).concat();
        format!(
            "{:>7}{:>11}{cores}{:>15}{:>11}",
            self.workers,
            figure(self.speed.events_per_s),
            figure(self.redis_full()),
            self.frames
        )
    }
}

impl Memory {
    fn lines(&self) -> Vec<String> {
        let Self {
            stories,
            turns,
            made,
            told,
            keys,
        } = self;
        let turn = (told - made) / *turns as f64;
        let mut lines = vec![
            format!("{stories} stories of {turns} turns each, bytes of Redis's memory"),
            format!("  a story as it is made          {made:>8.0}"),
            format!("  a turn, with its recording     {turn:>8.0}"),
        ];
        let keys = keys.iter();
        lines.extend(
            keys.map(|(name, bytes)| format!("    {name:<11} of a story        {bytes:>8.0}")),
        );
        lines
    }
}

impl Report {
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::from(self.shards.lines());
        lines.push(String::new());
        lines.push(
            "workers   events/s    Redis  workers gateways    model  Redis full at     frames   (cores in use)".to_owned(),
        );
        lines.extend(self.scale.iter().map(Scale::line));
        lines.push(String::new());
        lines.extend(self.memory.lines());
        lines.push(format!(
            "{:.0} s on {} CPUs, which all of it shares; medians",
            self.seconds, self.cpus
        ));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(events_per_s: f64) -> Speed {
        Speed {
            events_per_s,
            cpu_s_per_1000: 0.8,
            redis_cpu_s_per_1000: 0.25,
            model_cpu_s_per_1000: 0.3,
            prompt_tokens: 300.0,
        }
    }

    #[test]
    fn a_report_is_three_tables() {
        let report = Report {
            shards: Shards::new(16, speed(1_000.0), speed(850.0)),
            scale: vec![Scale {
                workers: 12,
                speed: speed(1_500.0),
                gateways_cpu_s_per_1000: 0.02,
                frames: 1_234.0,
            }],
            memory: Memory {
                stories: 20_000,
                turns: 3,
                made: 1_200.0,
                told: 13_200.0,
                keys: [("log", 3_500.0), ("recordings", 7_000.0)].into(),
            },
            cpus: 2,
            seconds: 200.4,
        };
        insta::assert_snapshot!(report.text(), @"
        one worker                                     1 shard 16 shards   ratio
        events/s                                          1000       850    0.85
        CPU s of Redis per 1,000 events                  0.250     0.250    1.00
        SHORT    events/s of those with one shard, at least 0.9: 0.850

        workers   events/s    Redis  workers gateways    model  Redis full at     frames   (cores in use)
             12       1500     0.38     1.20     0.03     0.45           4000       1234

        20000 stories of 3 turns each, bytes of Redis's memory
          a story as it is made              1200
          a turn, with its recording         4000
            log         of a story            3500
            recordings  of a story            7000
        200 s on 2 CPUs, which all of it shares; medians
        ");
    }
}
