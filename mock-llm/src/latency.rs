//! How long an answer takes: distributions for the first token and between tokens, drawn per request.

use std::str::FromStr;
use std::time::Duration;

use crate::dice::Dice;

/// The pace of every answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// From the request to its first token.
    pub first_token: Delay,
    /// From one frame of a stream to the next.
    pub between_tokens: Delay,
    /// Tokens in one frame, at least 1.
    pub chunk_tokens: u32,
}

/// A delay, or the distribution it is drawn from.
#[derive(Debug, Clone, PartialEq)]
pub enum Delay {
    Constant(Duration),
    LogNormal {
        median: Duration,
        sigma: f64,
    },
    /// Percentiles (0 to 100) and their delays, both ascending: straight lines between them, flat outside.
    Percentiles(Vec<(f64, Duration)>),
}

/// `{0}` is what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is no duration: write 0, 250us, 20ms, 1.5s or 2m")]
    Duration(String),
    #[error("`{0}` is no delay: write 20ms, lognormal(200ms,0.5) or p50=200ms,p99=1s")]
    Delay(String),
    #[error("`{0}`: percentiles and their delays must both ascend, between p0 and p100")]
    Percentiles(String),
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            first_token: Delay::ZERO,
            between_tokens: Delay::ZERO,
            chunk_tokens: 1,
        }
    }
}

impl Delay {
    pub const ZERO: Self = Self::Constant(Duration::ZERO);

    pub(crate) fn draw(&self, dice: &mut Dice) -> Duration {
        match self {
            Self::Constant(delay) => *delay,
            Self::LogNormal { median, sigma } => scaled(*median, (sigma * normal(dice)).exp()),
            Self::Percentiles(points) => percentile(points, dice.chance() * 100.0),
        }
    }
}

impl FromStr for Delay {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if let Some(open) = text.strip_prefix("lognormal(") {
            let parsed = open.strip_suffix(')').and_then(log_normal);
            return parsed.ok_or_else(|| Error::Delay(text.to_owned()));
        }
        if text.starts_with('p') {
            return percentiles(text);
        }
        duration(text).map(Self::Constant)
    }
}

fn duration(text: &str) -> Result<Duration, Error> {
    let wrong = || Error::Duration(text.to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "" if digits == "0" => 0.0,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())
}

fn log_normal(inside: &str) -> Option<Delay> {
    let (median, sigma) = inside.split_once(',')?;
    let sigma: f64 = sigma.trim().parse().ok()?;
    let median = duration(median.trim()).ok()?;
    let sensible = (0.0..=5.0).contains(&sigma);
    sensible.then_some(Delay::LogNormal { median, sigma })
}

fn percentiles(text: &str) -> Result<Delay, Error> {
    let point = |part: &str| {
        let (at, delay) = part.trim().strip_prefix('p')?.split_once('=')?;
        Some((at.parse().ok()?, duration(delay).ok()?))
    };
    let points: Option<Vec<(f64, Duration)>> = text.split(',').map(point).collect();
    let points = points.ok_or_else(|| Error::Delay(text.to_owned()))?;
    let in_range = points.iter().all(|(at, _)| (0.0..=100.0).contains(at));
    let ascend = |pair: &[(f64, Duration)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
    if in_range && points.windows(2).all(ascend) {
        Ok(Delay::Percentiles(points))
    } else {
        Err(Error::Percentiles(text.to_owned()))
    }
}

fn percentile(points: &[(f64, Duration)], at: f64) -> Duration {
    let above = points.partition_point(|(percent, _)| *percent < at);
    match (points.get(above.wrapping_sub(1)), points.get(above)) {
        (Some((low, from)), Some((high, to))) => {
            *from + (*to - *from).mul_f64((at - low) / (high - low))
        }
        (Some((_, only)), None) | (None, Some((_, only))) => *only,
        (None, None) => Duration::ZERO,
    }
}

/// No delay is longer than an hour: the tail of a wide distribution must not become an endless call.
fn scaled(median: Duration, factor: f64) -> Duration {
    Duration::from_secs_f64((median.as_secs_f64() * factor).min(3600.0))
}

/// Box and Muller's standard normal.
fn normal(dice: &mut Dice) -> f64 {
    let radius = (-2.0 * (1.0 - dice.chance()).ln()).sqrt();
    radius * (std::f64::consts::TAU * dice.chance()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(delay: &str) -> Vec<Duration> {
        let delay: Delay = delay.parse().unwrap();
        let mut draws: Vec<_> = (0..4001).map(|n| delay.draw(&mut Dice::new(n))).collect();
        draws.sort();
        draws
    }

    fn near(seen: Duration, told: f64) {
        let seen = seen.as_secs_f64() * 1e3;
        assert!((seen - told).abs() < told / 10.0, "{seen} ms, not {told}");
    }

    #[test]
    fn a_constant_is_itself() {
        assert_eq!(draws("1.5s")[0], Duration::from_millis(1500));
        assert_eq!(draws("0")[4000], Duration::ZERO);
    }

    #[test]
    fn a_lognormal_has_its_median_and_spread() {
        let draws = draws("lognormal(200ms,0.5)");
        near(draws[2000], 200.0);
        near(draws[4001 * 84 / 100], 329.0);
    }

    #[test]
    fn percentiles_are_met_exactly_and_joined_by_lines() {
        let Ok(Delay::Percentiles(points)) = "p50=100ms,p90=200ms,p100=1s".parse() else {
            panic!("these are percentiles");
        };
        let told = [
            (10.0, 100),
            (50.0, 100),
            (70.0, 150),
            (90.0, 200),
            (95.0, 600),
        ];
        for (at, told) in told {
            assert_eq!(percentile(&points, at), Duration::from_millis(told));
        }
        near(draws("p50=100ms,p90=200ms,p100=1s")[4001 * 70 / 100], 150.0);
    }

    #[test]
    fn what_is_no_delay_says_what_is() {
        for text in [
            "",
            "20",
            "ms",
            "-1s",
            "lognormal(1s)",
            "lognormal(1s,-1)",
            "p50",
        ] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
        let crossed = "p50=2s,p99=1s".parse::<Delay>();
        assert_eq!(crossed, Err(Error::Percentiles("p50=2s,p99=1s".into())));
        assert!("p50=1s,p101=2s".parse::<Delay>().is_err());
    }
}
