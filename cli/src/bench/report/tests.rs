//! What is told of a measurement, and which goals count as reached.

use super::*;

fn waits(millis: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    millis.into_iter().map(Duration::from_millis).collect()
}

fn speed(events_per_s: f64) -> Speed {
    Speed {
        events_per_s,
        cpu_s_per_1000: 0.25,
        redis_cpu_s_per_1000: 0.1,
        model_cpu_s_per_1000: 0.1,
        prompt_tokens: 100.0,
    }
}

fn report() -> Report {
    let latency = |p99| Latency { p50: 1.0, p99 };
    let mut report = Report {
        speed: Sides {
            floor: speed(4_000.0),
            fleet: speed(3_000.0),
        },
        ratio: 0.75,
        long: Sides {
            floor: speed(3_000.0),
            fleet: speed(1_000.0),
        },
        streamed: Sides {
            floor: speed(500.0),
            fleet: speed(500.0),
        },
        recording: [0.95, 0.85].map(|ratio| Recording {
            without: speed(3_000.0),
            with: speed(3_000.0 * ratio),
            ratio,
            bytes_per_event: 2_000.0,
        }),
        latency_ms: Sides {
            floor: latency(2.0),
            fleet: latency(8.0),
        },
        context_ms: 3.0,
        cpu_s_per_1000: 0.25,
        rss_mb: Memory {
            idle: 12.0,
            rested: 20.0,
            peak: 30.0,
            inflight_1000: 121.0,
        },
        inflight: Inflight {
            ideal_per_s: 5_000.0,
            floor_per_s: 5_000.0,
            fleet_per_s: 4_500.0,
            floor_mean: 1_000.0,
            fleet_mean: 900.0,
        },
        inflight_ratio: 0.9,
        targets: Vec::new(),
        rounds: 3,
        events: 6_000,
        cpus: 2,
    };
    report.judge();
    report
}

#[test]
fn a_percentile_is_a_wait_that_was_measured() {
    let hundred = waits(1..=100);
    for (share, millis) in [
        (0.5, 50.0),
        (0.99, 99.0),
        (0.991, 100.0),
        (1.0, 100.0),
        (0.0, 1.0),
    ] {
        assert_eq!(percentile(&hundred, share), millis, "{share}");
    }
    assert_eq!(percentile(&waits([7]), 0.99), 7.0);
    assert_eq!(percentile(&[], 0.99), 0.0);
}

#[test]
fn a_median_is_in_the_middle_whatever_the_order() {
    assert_eq!(median([9.0, 1.0, 2.0]), 2.0);
    assert_eq!(median([4.0, 1.0, 2.0, 100.0]), 3.0);
    assert_eq!(median([]), 0.0);
}

#[test]
fn programs_find_the_figures_where_they_are_told_to_look() {
    let json = serde_json::to_value(report()).unwrap();
    for (path, value) in [
        ("/floor/events_per_s", 4_000.0),
        ("/fleet/events_per_s", 3_000.0),
        ("/ratio", 0.75),
        ("/latency_ms/floor/p99", 2.0),
        ("/latency_ms/fleet/p99", 8.0),
        ("/context_ms", 3.0),
        ("/cpu_s_per_1000", 0.25),
        ("/rss_mb/idle", 12.0),
        ("/long/fleet/events_per_s", 1_000.0),
        ("/rss_mb/inflight_1000", 121.0),
        ("/inflight_ratio", 0.9),
    ] {
        assert_eq!(json.pointer(path), Some(&value.into()), "{path}");
    }
}

#[test]
fn a_target_is_reached_at_its_border_and_not_beyond() {
    let report = report();
    let reached: Vec<bool> = report.targets.iter().map(|target| target.reached).collect();
    assert_eq!(reached, [true, true, false, true, true, false, true]);
    let text = report.text();
    assert_eq!(text.matches("reached").count(), 5, "{text}");
    assert_eq!(text.matches("SHORT").count(), 2, "{text}");
}
