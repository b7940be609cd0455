//! What a worker makes of what Redis says of its models, under a clock that is stopped.

use llm::{Most, Spent, Usage};

use super::*;
use crate::Metrics;

const LONGEST: Duration = Duration::from_secs(90);

fn known(models: usize) -> Known {
    let names = (0..models).map(|n| Named {
        name: format!("m{n}"),
        account: format!("http://{n} m{n}"),
    });
    Known::new(names.collect())
}

fn asked(model: usize, is_last: bool) -> Asked {
    Asked {
        model,
        kind: Kind::First,
        most: Most {
            prompt: 1,
            answer: None,
        },
        is_last,
    }
}

fn done(failed: Option<Class>) -> Done {
    Done {
        spent: Spent::Told(Usage::default()),
        failed,
        pause: None,
    }
}

fn open(seconds: u64) -> State {
    State::Open {
        again: Duration::from_secs(seconds),
        since: Duration::ZERO,
    }
}

const TRIAL: State = State::Trial {
    since: Duration::ZERO,
};

impl Known {
    /// As if Redis had said so.
    fn hears(&mut self, models: &[State]) {
        let (_, fared) = self.take(None);
        let health = Health {
            granted: true,
            models: models.to_vec(),
        };
        let meters = Metrics::new().of(story::Agent::Narrator);
        self.apply(&fared, &health, &meters);
    }

    fn rests(&self) -> bool {
        matches!(self.resting(LONGEST), Ok(Taking::NoneUntil(_)))
    }
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_an_open_model_go_to_the_next_and_of_the_last_one_they_are_made() {
    let mut known = known(2);
    known.hears(&[open(5), open(5)]);
    assert_eq!(known.begins(asked(0, false)), Begins::Passed);
    assert_eq!(known.begins(asked(1, true)), Begins::Asked);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(known.begins(asked(0, false)), Begins::Due);
    known.hears(&[TRIAL, open(5)]);
    // One call tries it.
    assert_eq!(known.begins(asked(0, false)), Begins::Asked);
    assert_eq!(known.begins(asked(0, false)), Begins::Passed);
    assert_eq!(known.take(None).0, 0);
    known.made(Kind::First);
    known.made(Kind::Retry);
    assert_eq!(known.take(None).0, 1, "a call counts when it is made");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_while_all_are_open_but_one_event_to_try_one_with() {
    let mut known = known(2);
    known.hears(&[open(5), State::Closed]);
    assert_eq!(known.resting(LONGEST), Ok(Taking::All));
    known.hears(&[open(5), open(9)]);
    assert!(known.rests());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(known.resting(LONGEST), Err(0));
    known.hears(&[TRIAL, open(3)]);
    assert_eq!(known.resting(LONGEST), Ok(Taking::One));
    known.took();
    assert!(known.rests());
    // The call of that event tries it, however long it takes to begin.
    known.hears(&[open(9), open(3)]);
    assert_eq!(known.begins(asked(0, false)), Begins::Asked);
    known.told(0, &done(None));
    known.hears(&[State::Closed, open(3)]);
    assert_eq!(known.resting(LONGEST), Ok(Taking::All));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_nobody_made_ends_as_that_of_another_worker_may_begin() {
    for taken in [false, true] {
        let mut known = known(1);
        known.hears(&[TRIAL]);
        if taken {
            known.took();
        }
        // Another one tries it by then: whenever Redis is asked, it is not yet time again.
        tokio::time::advance(Duration::from_secs(10)).await;
        known.hears(&[open(9)]);
        assert!(known.rests(), "{taken}");
    }
}

#[test]
fn a_model_with_another_key_is_another_one() {
    let mut known = known(1);
    known.hears(&[open(9)]);
    known.told(0, &done(Some(Class::Auth)));
    let (calls, before) = known.take(None);
    known.renamed(0, "http://0 m0 another".to_owned());
    assert_eq!(known.resting(LONGEST), Ok(Taking::All));
    known.give_back(calls, &before);
    assert!(!known.take(None).1[0].tells());
}

#[tokio::test(start_paused = true)]
async fn events_wait_no_longer_than_a_call_may_last_since_the_last_model_opened() {
    let mut known = known(2);
    let since = |since| State::Open {
        again: Duration::from_secs(60),
        since,
    };
    // The second one has been open for an hour, in which nobody had to ask it.
    let hour = Duration::from_secs(3_600);
    known.hears(&[since(Duration::ZERO), since(hour)]);
    assert!(known.rests());
    known.hears(&[since(LONGEST - Duration::from_secs(1)), since(hour)]);
    assert!(known.rests());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(known.resting(LONGEST), Ok(Taking::All));
}

#[test]
fn what_is_the_requests_own_says_nothing_of_its_model() {
    for (class, tells, shuts) in [
        (Class::Provider, 1, 0),
        (Class::FirstToken, 1, 0),
        (Class::Stall, 1, 0),
        (Class::Truncated, 1, 0),
        (Class::Connect, 1, 0),
        (Class::Auth, 0, 30),
        (Class::Quota, 0, 30),
        (Class::Rate, 0, 1),
        (Class::Context, 0, 0),
        (Class::Request, 0, 0),
        (Class::Blocked, 0, 0),
        (Class::Deadline, 0, 0),
        (Class::Cancelled, 0, 0),
    ] {
        let mut known = known(2);
        let is_news = known.told(0, &done(Some(class)));
        let (_, fared) = known.take(None);
        let told = (fared[0].failures(), fared[0].shut.as_secs());
        assert_eq!(told, (tells, shuts), "{class}");
        assert_eq!(is_news, fared[0].tells(), "{class}");
    }
}

#[test]
fn a_model_alone_that_is_asked_too_much_is_waited_for() {
    let mut known = known(1);
    assert!(!known.told(0, &done(Some(Class::Rate))));
    assert!(!known.take(None).1[0].tells());
}

#[test]
fn what_redis_was_not_told_is_told_the_next_time() {
    let mut known = known(1);
    known.made(Kind::First);
    known.told(0, &done(Some(Class::Provider)));
    let (calls, fared) = known.take(None);
    known.told(0, &done(None));
    known.give_back(calls, &fared);
    let (calls, fared) = known.take(None);
    assert_eq!((calls, fared[0].ended.as_str()), (1, "x."));
}
