//! Figures as they stand in a table: short, with their unit.

/// Of milliseconds, at most five characters.
pub(super) fn time(ms: Option<u64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms @ ..1_000) => format!("{ms}ms"),
        Some(ms @ ..10_000) => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        Some(ms @ ..100_000) => format!("{}s", ms / 1_000),
        Some(ms @ ..6_000_000) => format!("{}m", ms / 60_000),
        Some(ms @ ..360_000_000) => format!("{}h", ms / 3_600_000),
        Some(ms) => format!("{}d", ms / 86_400_000),
    }
}

pub(super) fn seconds(seconds: Option<f64>) -> String {
    // A cast of what is no number is 0.
    time(seconds.map(|seconds| (seconds * 1_000.0).round() as u64))
}

pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "–".to_owned(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1_024.0 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    let name = UNITS[unit];
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {name}")
    }
}

/// A count that is one of many, perhaps.
pub(super) fn at_least(count: u64, is_all: bool) -> String {
    if is_all {
        count.to_string()
    } else {
        format!("≥{count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_five_characters_at_most() {
        for (ms, says) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (59_900, "59s"),
            (100_000, "1m"),
            (5_999_999, "99m"),
            (7_200_000, "2h"),
            (864_000_000, "10d"),
        ] {
            assert_eq!(time(Some(ms)), says);
        }
        assert_eq!(time(None), "–");
        assert_eq!(seconds(Some(0.0314)), "31ms");
    }

    #[test]
    fn bytes_and_counts_say_what_they_are() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_572_864), "1.5 MiB");
        assert_eq!(
            (at_least(7, true), at_least(7, false)),
            ("7".into(), "≥7".into())
        );
        assert_eq!(
            (rate(Some(3.06)), rate(Some(1234.5)), rate(None)),
            ("3.1".into(), "1234".into(), "–".into())
        );
    }
}
