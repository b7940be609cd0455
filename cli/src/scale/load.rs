//! How many events come in each minute.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// A day with a quiet night, an evening, and a rush at 14:00 and at 21:30. Made by a test of this file, from a seed.
const DAY: &str = include_str!("day.csv");
const HEAD: &str = "minute,events";
/// A week.
const MOST_MINUTES: usize = 7 * 24 * 60;
const MOST_EVENTS: u64 = 50_000_000;

/// Events by minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load(pub(crate) Vec<u32>);

impl Load {
    pub(super) fn day() -> anyhow::Result<Self> {
        Self::read(DAY)
    }

    pub(super) fn of_file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
        Self::read(&text).with_context(|| format!("{shown} is no load"))
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines().map(str::trim).zip(1..);
        ensure!(
            lines.next().is_some_and(|(line, _)| line == HEAD),
            "its first line is `{HEAD}`"
        );
        let mut minutes = Vec::new();
        for (line, number) in lines.filter(|(line, _)| !line.is_empty()) {
            let row = line.split_once(',');
            let row = row.and_then(|(minute, events)| {
                let minute: usize = minute.trim().parse().ok()?;
                Some((minute, events.trim().parse::<u32>().ok()?))
            });
            match row {
                Some((minute, events)) if minute == minutes.len() => minutes.push(events),
                Some(_) => bail!("line {number}: the minute is {}", minutes.len()),
                None => bail!("line {number}: it is two numbers, as in `0,120`"),
            }
        }
        let events: u64 = minutes.iter().copied().map(u64::from).sum();
        ensure!(
            (1..=MOST_MINUTES).contains(&minutes.len()),
            "it has 1 to {MOST_MINUTES} minutes"
        );
        ensure!(events <= MOST_EVENTS, "it has {MOST_EVENTS} events at most");
        Ok(Self(minutes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Events in a second: a low before dawn, a high in the evening, two rushes that come within two minutes.
    fn rate(minute: f64) -> f64 {
        let hour = minute / 60.0;
        let wave = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
        let rush = |at: f64, minutes: f64| {
            let since = minute - at * 60.0;
            (since / 2.0).clamp(0.0, 1.0) * (1.0 - (since - minutes) / 20.0).clamp(0.0, 1.0)
        };
        let daily = 1.5 + 9.0 * wave(13.0, 3.5) + 27.0 * wave(20.5, 2.5);
        daily + 45.0 * rush(14.0, 10.0) + 55.0 * rush(21.5, 6.0)
    }

    fn made(seed: u64) -> String {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut text = format!("{HEAD}\n");
        for minute in 0..24 * 60_u32 {
            let noise = random.random_range(0.9..1.1);
            let events = (60.0 * rate(f64::from(minute)) * noise).round();
            text += &format!("{minute},{events}\n");
        }
        text
    }

    #[test]
    fn the_day_in_the_tree_is_what_its_seed_makes() {
        let made = made(1);
        if made != DAY {
            let file = tempfile::NamedTempFile::with_suffix(".csv").unwrap();
            let (mut file, path) = file.keep().unwrap();
            file.write_all(made.as_bytes()).unwrap();
            let path = path.display();
            panic!("day.csv is another day: what the seed makes is in {path}");
        }
        assert_eq!(Load::day().unwrap().0.len(), 1_440);
    }

    #[test]
    fn a_load_is_read_and_what_is_none_is_refused_with_its_line() {
        assert_eq!(
            Load::read("minute,events\n0,5\n1, 7\n").unwrap(),
            Load(vec![5, 7])
        );
        for (text, says) in [
            ("0,5\n", "its first line"),
            ("minute,events\n0,5\n2,7\n", "line 3: the minute is 1"),
            ("minute,events\n0;5\n", "line 2: it is two numbers"),
            ("minute,events\n0,-5\n", "line 2"),
            ("minute,events\n", "1 to 10080 minutes"),
            ("minute,events\n0,4000000000\n", "events at most"),
        ] {
            let error = Load::read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
