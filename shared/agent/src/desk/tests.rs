//! Who pays for a call, and what is said of a budget that has no room for it.

use super::*;

fn event(id: &str, author: &str, cause: &str) -> Event {
    let kind = if author == "narrator" {
        "agent"
    } else {
        "user"
    };
    let cause: Vec<&str> = Some(cause)
        .filter(|cause| !cause.is_empty())
        .into_iter()
        .collect();
    let json = serde_json::json!({
        "v": 1, "id": id, "type": "action", "story": "castle", "mode": "do", "text": "I wait.",
        "author": {"kind": kind, "id": author, "name": ""}, "cause": cause, "hop": 0, "at": "2026-11-24T01:02:03Z",
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn whoever_joins_a_beat_pays_for_it_and_each_once() {
    let lead = event("a1", "mira", "");
    let joined = [event("a2", "oto", ""), event("a3", "mira", "")];
    assert_eq!(people(&lead, &joined, &[]), ["mira", "oto"]);
    assert_eq!(people(&lead, &[], &[]), ["mira"]);
}

#[test]
fn a_step_is_for_whose_action_it_follows_while_the_history_tells() {
    let history = [LogEntry {
        seq: story::Seq(1),
        event: event("a1", "mira", ""),
    }];
    let step = event("n1", "narrator", "a1");
    assert_eq!(people(&step, &[], &history), ["mira"]);
    assert!(people(&step, &[], &[]).is_empty());
}

#[test]
fn a_budget_that_one_call_is_more_than_is_not_called_used_up() {
    let claim = |tokens, cost| Claim {
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
