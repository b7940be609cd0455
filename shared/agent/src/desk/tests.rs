//! What is said of a budget that has no room for a call.

use super::*;

#[test]
fn a_budget_that_one_call_is_more_than_is_not_called_used_up() {
    let claim = |tokens, cost| Claim {
        place: 0,
        call: "castle:n1:0".to_owned(),
        attempt: "1".into(),
        story: "castle".parse().unwrap(),
        most: Used { tokens, cost },
        budgets: [(Unit::Tokens, 700), (Unit::Cost, 5)]
            .map(|(unit, a_day)| Budget {
                whose: "story:castle".to_owned(),
                unit,
                a_day,
            })
            .to_vec(),
    };
    let until = Duration::from_secs(2 * 3_600 + 60);
    for (claim, place, says) in [
        (
            claim(700, 5),
            0,
            "of a day's 700 tokens of story:castle too few are left: the next one begins in 2 h 1 min",
        ),
        (
            claim(701, 5),
            0,
            "a call that may take 701 tokens is more than all of a day's 700 of story:castle",
        ),
        (
            claim(700, 6),
            1,
            "a call that may take 6 millionths of cost is more than all of a day's 5 of story:castle",
        ),
    ] {
        let error = over(&claim, place, until);
        assert_eq!(error.class, Class::Budget);
        assert!(error.to_string().contains(says), "{error}");
    }
}
