//! Loads played whole: small ones reckoned by hand, and what must hold of any.

use std::collections::{HashMap, HashSet};

use ::story::Agent;
use proptest::prelude::*;

use super::fleet::{Settings, play};
use super::keda::Scaler;
use super::load::Load;
use super::report;
use crate::args::Signal;

/// The narrator's in the tree; every call takes a second.
fn settings(signal: Signal) -> Settings {
    Settings {
        scaler: Scaler::of(Agent::Narrator).unwrap(),
        signal,
        seed: 1,
        stories: 1_000,
        concurrency: 64,
        call_p50: 1_000,
        call_p99: 1_000,
        pod_start: 20_000,
        drain: 45_000,
        cpu_per_event: 5_000,
    }
}

/// Calls of two minutes, so that all that comes within one is there at once.
fn flood(signal: Signal) -> Settings {
    Settings {
        call_p50: 120_000,
        call_p99: 120_000,
        stories: 1_000_000,
        ..settings(signal)
    }
}

#[test]
fn who_has_room_takes_at_once() {
    let tally = play(&Load(vec![60; 3]), &settings(Signal::Work));
    let summary = report::summary("work".to_owned(), &tally);
    assert_eq!((summary.answered, summary.unanswered), (180, 0));
    assert_eq!(
        (summary.wait_p99_ms, summary.answer_p50_ms),
        (Some(0), Some(1_000))
    );
    // Two workers for three minutes, of which 180 s of 128 places are used.
    assert_eq!((summary.worker_hours, summary.peak_workers), (0.1, 2));
    assert_eq!(summary.changes, 0);
}

#[test]
fn work_asks_for_what_is_there_and_no_more() {
    let tally = play(&Load(vec![480, 0, 0]), &flood(Signal::Work));
    // 480 / 48.
    assert_eq!(tally.peak, 10);
    assert_eq!(tally.took.len(), 480);
}

#[test]
fn no_more_than_the_most_come() {
    let tally = play(&Load(vec![5_000, 0, 0]), &flood(Signal::Work));
    assert_eq!(tally.peak, 20);
    assert!(
        tally
            .minutes
            .iter()
            .all(|minute| minute.ready + minute.starting <= 20)
    );
    // 20 workers have 1,280 places.
    assert!(
        tally
            .minutes
            .iter()
            .all(|minute| minute.in_flight <= 1_280 + 64 * u64::from(minute.draining))
    );
}

#[test]
fn what_is_told_of_lag_and_of_cpu_leaves_people_waiting() {
    // Up to ten in a second within half an hour, and so for an hour.
    let load = Load((1..=90).map(|minute| 600.min(20 * minute)).collect());
    let wait = |signal| {
        let settings = Settings {
            call_p50: 30_000,
            call_p99: 30_000,
            ..flood(signal)
        };
        let summary = report::summary(String::new(), &play(&load, &settings));
        // Two workers are too few for ten in a second, and CPU never asks for a third.
        assert_eq!(summary.unanswered > 0, signal == Signal::Cpu, "{signal:?}");
        (summary.wait_p99_ms.unwrap(), summary.changes)
    };
    let (work, changes) = wait(Signal::Work);
    assert!(work < 1_000 && changes < 10, "{work} ms, {changes} changes");
    let (lag, changes) = wait(Signal::Lag);
    assert!(lag > 5_000 && changes > 10, "{lag} ms, {changes} changes");
    let (cpu, changes) = wait(Signal::Cpu);
    assert!(cpu > 60_000 && changes == 0, "{cpu} ms, {changes} changes");
}

#[test]
fn from_none_work_brings_the_first_worker_and_pending_never_does() {
    let from_none = |signal| Settings {
        scaler: Scaler::of(Agent::Dialogue).unwrap(),
        ..settings(signal)
    };
    let load = Load([vec![1], vec![0; 14]].concat());
    let tally = play(&load, &from_none(Signal::Work));
    assert_eq!((tally.took.len(), tally.peak), (1, 1));
    // A look within 5 s, 20 s of start, the call.
    assert!(
        (21_000..=26_000).contains(&tally.took[0]),
        "{:?}",
        tally.took
    );
    // From the last look that saw it: none again after 600 s.
    let workers: Vec<_> = tally.minutes.iter().map(|minute| minute.ready).collect();
    assert_eq!(
        (workers[0..10].iter().max(), workers.last()),
        (Some(&1), Some(&0)),
        "{workers:?}"
    );
    assert_eq!(
        workers.iter().filter(|ready| **ready == 1).count(),
        10,
        "{workers:?}"
    );
    let tally = play(&load, &from_none(Signal::Pending));
    assert_eq!((tally.took.len(), tally.peak), (0, 0));
}

#[test]
fn a_worker_that_is_sent_away_gives_back_what_it_cannot_finish() {
    let settings = Settings {
        call_p50: 600_000,
        call_p99: 600_000,
        ..settings(Signal::Lag)
    };
    // Lag asks for more while something waits, and for none while all is in flight.
    let tally = play(&Load([vec![400], vec![0; 14]].concat()), &settings);
    assert!(tally.released > 0);
    assert_eq!(tally.took.len(), 400);
}

#[test]
fn the_same_seed_gives_the_same_day_and_the_signal_does_not_change_it() {
    let load = Load(vec![300; 20]);
    assert_eq!(
        play(&load, &settings(Signal::Work)),
        play(&load, &settings(Signal::Work))
    );
    let other = Settings {
        seed: 2,
        call_p99: 9_000,
        ..settings(Signal::Work)
    };
    assert_ne!(play(&load, &other), play(&load, &settings(Signal::Work)));
}

#[test]
fn half_the_calls_are_shorter_than_the_half_and_one_in_a_hundred_is_longer() {
    let settings = Settings {
        call_p50: 8_000,
        call_p99: 30_000,
        ..flood(Signal::Work)
    };
    let tally = play(&Load(vec![600; 20]), &settings);
    let summary = report::summary(String::new(), &tally);
    let (half, most) = (
        summary.answer_p50_ms.unwrap(),
        summary.answer_p99_ms.unwrap(),
    );
    assert!((7_700..8_300).contains(&half), "{half}");
    assert!((28_000..34_000).contains(&most), "{most}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_event_is_answered_once_and_in_its_storys_order(
        load in proptest::collection::vec(0..400_u32, 1..12),
        stories in 1..60_u32,
        concurrency in 1..80_u32,
        seed in any::<u64>(),
        drain in 1..60_000_u64,
    ) {
        let settings = Settings {
            stories,
            concurrency,
            seed,
            drain,
            call_p50: 400,
            call_p99: 4_000,
            ..settings(Signal::Work)
        };
        let load = Load(load);
        let tally = play(&load, &settings);
        let events: HashSet<_> = tally.answers.iter().map(|entry| entry.event).collect();
        prop_assert_eq!(tally.published, load.0.iter().copied().map(u64::from).sum::<u64>());
        prop_assert_eq!(events.len() as u64, tally.published);
        prop_assert_eq!(tally.answers.len(), events.len());
        let mut last = HashMap::new();
        for entry in &tally.answers {
            let before = last.insert(entry.story, entry.event);
            prop_assert!(before.is_none_or(|before| before < entry.event), "{entry:?} after {before:?}");
        }
        for minute in &tally.minutes {
            prop_assert!(minute.ready + minute.starting <= 20 && minute.ready + minute.starting >= 2);
            prop_assert!(minute.in_flight <= u64::from(concurrency * (minute.ready + minute.draining)));
        }
        prop_assert!(tally.wasted_hours() >= -1e-9);
    }
}
