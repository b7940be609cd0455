//! Tries, delays and deadlines under a clock that is stopped.

use std::collections::BTreeSet;

use super::*;
use crate::Deadlines;

fn retries(total: u64, max_tries: u32) -> Retries {
    let deadlines = Deadlines {
        total: Duration::from_secs(total),
        ..Deadlines::default()
    };
    Retries::new(&Settings {
        deadlines,
        max_tries,
        ..Settings::default()
    })
}

fn failure(class: Class) -> Error {
    Error::new(class, "x")
}

impl Retries {
    fn fails(&mut self, class: Class) -> Result<Instant, Error> {
        self.after(failure(class), Usage::default())
    }
}

#[tokio::test(start_paused = true)]
async fn counted_tries_end_at_the_limit() {
    let mut retries = retries(90, 3);
    assert!(retries.fails(Class::Provider).is_ok());
    assert!(retries.fails(Class::Stall).is_ok());
    assert!(retries.fails(Class::Provider).is_err());
}

#[tokio::test(start_paused = true)]
async fn delays_double_and_jitter_within_half() {
    let mut retries = retries(90, 10);
    for nominal in [250, 500, 1000, 2000, 4000, 8000, 8000] {
        let delay = retries.fails(Class::Provider).unwrap() - Instant::now();
        let (least, most) = (
            Duration::from_millis(nominal / 2),
            Duration::from_millis(nominal * 3 / 2 + 1),
        );
        assert!(
            (least..=most).contains(&delay),
            "{delay:?} around {nominal} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rate_limits_cost_no_try_but_end_with_the_deadline() {
    let mut retries = retries(60, 1);
    let started = Instant::now();
    while let Ok(at) = retries.fails(Class::Rate) {
        tokio::time::sleep_until(at).await;
    }
    let elapsed = started.elapsed();
    assert!(
        elapsed < Duration::from_secs(60) && elapsed > Duration::from_secs(45),
        "{elapsed:?}"
    );
}

/// How long a provider that is never reached is asked again.
async fn patience(mut retries: Retries) -> Duration {
    let started = Instant::now();
    while let Ok(at) = retries.fails(Class::Connect) {
        let pause = at - Instant::now();
        assert!(pause <= Duration::from_millis(1_501), "{pause:?}");
        tokio::time::sleep_until(at).await;
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_not_reached_is_waited_for_within_patience_and_deadline() {
    for (total, limit) in [(90, 20), (12, 12)] {
        let waited = patience(retries(total, 1)).await;
        let limit = Duration::from_secs(limit);
        assert!(
            waited <= limit && waited > limit - Duration::from_secs(2),
            "{waited:?} of {limit:?}"
        );
    }
    let mut away = retries(90, 2);
    away.patience = Duration::ZERO;
    assert!(away.fails(Class::Connect).is_err());
}

#[tokio::test(start_paused = true)]
async fn only_the_time_that_a_provider_is_away_costs_patience() {
    let mut retries = retries(90, 3);
    for _ in 0..2 {
        for _ in 0..4 {
            let at = retries.fails(Class::Connect).unwrap();
            tokio::time::sleep_until(at).await;
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
        let _counted = retries.fails(Class::Provider);
    }
    assert_eq!(retries.away, None);
    assert!(retries.fails(Class::Connect).is_ok());
}

/// It takes a request, dies of it, and is back when it was not reached twice.
#[tokio::test(start_paused = true)]
async fn patience_and_counted_tries_add_up_and_do_not_multiply() {
    for (max_tries, last) in [(3, Class::Truncated), (1000, Class::Connect)] {
        let mut retries = retries(9000, max_tries);
        let (mut sent, mut away) = (0, Duration::ZERO);
        let given_up = 'call: loop {
            for class in [Class::Truncated, Class::Connect, Class::Connect] {
                sent += u32::from(class == Class::Truncated);
                let at = match retries.fails(class) {
                    Ok(at) => at,
                    Err(error) => break 'call error,
                };
                if class == Class::Connect {
                    away += at - Instant::now();
                }
                tokio::time::sleep_until(at).await;
            }
        };
        assert_eq!(given_up.class, last);
        assert!(sent <= max_tries && away <= Duration::from_secs(20));
        match last {
            Class::Connect => assert!(away > Duration::from_secs(19), "{away:?}"),
            _ => assert_eq!(sent, max_tries),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_past_the_deadline_is_not_begun() {
    for asked in [Duration::from_secs(60), Duration::MAX] {
        let told = Error {
            retry_after: Some(asked),
            ..failure(Class::Rate)
        };
        assert_eq!(
            retries(60, 3)
                .after(told, Usage::default())
                .unwrap_err()
                .class,
            Class::Rate
        );
    }
}

#[tokio::test(start_paused = true)]
async fn calls_told_the_same_wait_come_back_after_it_and_not_together() {
    let asked = Duration::from_secs(20);
    let told = || Error {
        retry_after: Some(asked),
        ..failure(Class::Rate)
    };
    for before in [0, 6] {
        let times: BTreeSet<Instant> = (0..20)
            .map(|_| {
                let mut retries = retries(90, 3);
                for _ in 0..before {
                    retries.fails(Class::Rate).unwrap();
                }
                retries.after(told(), Usage::default()).unwrap()
            })
            .collect();
        let (first, last) = (*times.first().unwrap(), *times.last().unwrap());
        assert!(last - first > Duration::from_millis(80), "{times:?}");
        assert!(first >= Instant::now() + asked);
        assert!(last <= Instant::now() + asked + APART);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_wait_waits_that_long_or_the_backoff_and_hardly_longer() {
    let mut retries = retries(90, 3);
    for _ in 0..6 {
        let told = Error {
            retry_after: Some(Duration::from_secs(1)),
            ..failure(Class::Rate)
        };
        let own = retries.delays.current_interval * 3 / 2;
        let wait = retries.after(told, Usage::default()).unwrap() - Instant::now();
        assert!(wait <= own.max(Duration::from_secs(2)), "{wait:?} {own:?}");
        assert!(wait >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_begun_and_dropped_is_counted_once() {
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tells = std::sync::Arc::clone(&seen);
    let settings = Settings {
        observer: Observer::new(move |ended| {
            let told = (ended.sent, ended.failed, ended.call.is_some());
            tells.lock().unwrap().push(told);
        }),
        ..Settings::default()
    };
    drop(Retries::new(&settings));
    Retries::new(&settings).begin();
    let mut waits = Retries::new(&settings);
    waits.begin();
    waits.fails(Class::Provider).unwrap();
    drop(waits);
    let mut over = Retries::new(&settings);
    over.begin();
    over.answered(Usage::default());
    drop(over);
    let told = [
        (true, Some(Class::Cancelled), true),
        (true, Some(Class::Provider), false),
        (false, Some(Class::Cancelled), true),
        (true, None, true),
    ];
    assert_eq!(*seen.lock().unwrap(), told);
}

#[tokio::test(start_paused = true)]
async fn a_limit_past_the_deadline_is_the_deadline() {
    let deadline = Instant::now() + Duration::from_secs(10);
    let limit = |seconds| Limit::new(Duration::from_secs(seconds), Class::Stall, deadline);
    assert_eq!(limit(9).passed().class, Class::Stall);
    assert_eq!(
        (limit(11).passed().class, limit(11).at),
        (Class::Deadline, deadline)
    );
}
