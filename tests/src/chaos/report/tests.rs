//! Which runs are clean.

use super::*;

/// A run that shows all it is for, with so many of its hundred actions failed of `class`.
fn report(failed: u64, class: &str) -> Report {
    let plan = Plan::new(1, Duration::from_secs(1)).unwrap();
    let blows = Blows {
        killed: 1,
        ended: 1,
        frozen: 1,
        delayed: 1,
        redis_restarts: 1,
        redis_frozen: 1,
    };
    let mut report = Report::new(&plan, Duration::ZERO, blows);
    report.model_faults = 1;
    (report.heard.latest, report.heard.held) = (1, 1);
    (report.account.actions, report.account.blocked) = (100, 1);
    report.account.answered = 100 - failed;
    report.account.failed = [(class.to_owned(), failed)].into();
    (report.journal.fenced, report.journal.reclaimed) = (1, 1);
    report.readers.returns = 1;
    (report.readers.answers, report.readers.drafted) = (100, 50);
    report
}

fn wrong(mut report: Report) -> usize {
    report.finish();
    report.wrong.len()
}

#[test]
fn some_failures_are_fine_and_many_or_strange_ones_are_not() {
    assert_eq!(wrong(report(10, "crash")), 0);
    assert_eq!(wrong(report(100, "crash")), 1);
    assert_eq!(wrong(report(1, "prompt")), 1);
    assert_eq!(wrong(report(1, "rate")), 0);
    assert_eq!(wrong(report(2, "rate")), 1);
    for (rated, faults) in [(2, 0), (3, 1)] {
        let mut long = report(0, "rate");
        long.account.actions = 10_000;
        long.account.answered = 10_000 - rated;
        long.account.failed = [("rate".to_owned(), rated)].into();
        assert_eq!(wrong(long), faults, "{rated}");
    }
    let mut deadly = report(0, "crash");
    deadly.crashes = 6;
    assert_eq!(wrong(deadly), 1);
}

#[test]
fn a_reader_sees_answers_grow_and_hardly_ever_anew() {
    for (drafted, resets, replaced, faults) in [
        (100, 25, 5, 0),
        (29, 0, 0, 1),
        (0, 0, 0, 1),
        (100, 26, 0, 1),
        (100, 0, 6, 1),
    ] {
        let mut report = report(0, "crash");
        report.readers = Readers {
            answers: 100,
            returns: 1,
            drafted,
            resets,
            replaced,
            ..Readers::default()
        };
        assert_eq!(wrong(report), faults);
    }
}

#[test]
fn a_run_that_shows_nothing_is_not_clean() {
    let dealt = report(0, "crash").blows;
    for (least, blows) in [
        (0, dealt),
        (1, Blows { killed: 0, ..dealt }),
        (1, Blows { ended: 0, ..dealt }),
        (1, Blows { frozen: 0, ..dealt }),
        (
            1,
            Blows {
                delayed: 0,
                ..dealt
            },
        ),
        (
            1,
            Blows {
                redis_restarts: 0,
                ..dealt
            },
        ),
        (
            1,
            Blows {
                redis_frozen: 0,
                ..dealt
            },
        ),
    ] {
        let mut report = report(0, "crash");
        report.blows = blows;
        assert_eq!(wrong(report), least, "{blows:?}");
    }
    let mut idle = report(0, "crash");
    (idle.journal, idle.readers) = (Journal::default(), Readers::default());
    (idle.model_faults, idle.account.blocked) = (0, 0);
    idle.heard = Messages::default();
    assert_eq!(wrong(idle), 8);
}
