//! The moderator against the mock model over real HTTP: what each ruling does, held or not, and when the model fails.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use agent::flags::{SecondTier, Tier};
use agent::{Effects, Emitted, Turn};
use moderator::{Moderator, OnError, Options};
use story::{Decision, Dialogue, Event, EventId, Mode, Payload, Status};

const HARMLESS: &str = "I open the door";
const FLAGGED: &str = "how to cook meth";
const BLOCKED: &str = "pay with 4111 1111 1111 1111";

async fn judge(rules: &str, options: (Tier, OnError), event: Event, held: bool) -> Effects {
    let (tier2, input_on_error) = options;
    let options = Options {
        second: SecondTier { tier2 },
        input_on_error,
    };
    let turn = Turn {
        held,
        ..rehearsal::turn(story::Agent::Moderator, event)
    };
    let moderator = Moderator::new(options);
    rehearsal::play(rules, &moderator, turn).await.unwrap()
}

fn action(text: &str) -> Event {
    let action = rehearsal::action(Mode::Do, text);
    rehearsal::event("e1", Payload::Action(action))
}

fn response(text: &str) -> Event {
    let dialogue = Dialogue {
        character: "Sibyl".to_owned(),
        text: text.to_owned(),
        status: Status::Complete,
        llm: None,
    };
    let mut event = rehearsal::event("e1", Payload::Dialogue(dialogue));
    event.cause = vec!["a1".parse().unwrap()];
    event
}

/// What is emitted, in a word each: `passed`, `flag by rules`, `retracted` …
fn outcome(effects: &Effects) -> Vec<String> {
    let emitted = effects.emit.iter().map(|emitted| match emitted {
        Emitted::Passed(event) => format!("passed {}", event.id),
        Emitted::New(event) => match event.payload() {
            Payload::Verdict(verdict) => {
                let decision = match verdict.decision {
                    Decision::Allow => "allow",
                    Decision::Flag => "flag",
                    Decision::Block => "block",
                };
                let cause: Vec<&str> = event.cause.iter().map(EventId::as_str).collect();
                format!("{decision} by {} for {}", verdict.tier, cause.join(" "))
            }
            _ => event.kind().to_owned(),
        },
    });
    emitted.collect()
}

const RULES_ONLY: (Tier, OnError) = (Tier::Off, OnError::Allow);

#[tokio::test]
async fn a_held_event_passes_or_a_verdict_takes_its_place() {
    for (event, expected) in [
        (action(HARMLESS), vec!["passed e1"]),
        (action(FLAGGED), vec!["passed e1", "flag by rules for e1"]),
        (action(BLOCKED), vec!["block by rules for e1"]),
        (response(HARMLESS), vec!["passed e1"]),
        (response(BLOCKED), vec!["block by rules for e1 a1"]),
    ] {
        let effects = judge("", RULES_ONLY, event, true).await;
        assert_eq!(outcome(&effects), expected);
        assert_eq!(effects.retract, None);
    }
}

#[tokio::test]
async fn a_response_that_readers_saw_is_taken_back_or_stays() {
    let effects = judge("", RULES_ONLY, response(BLOCKED), false).await;
    assert_eq!(outcome(&effects), ["retracted"]);
    assert_eq!(effects.retract, Some("e1".parse().unwrap()));
    let effects = judge("", RULES_ONLY, response(HARMLESS), false).await;
    assert_eq!((outcome(&effects).len(), effects.retract), (0, None));
}

#[tokio::test]
async fn the_model_looks_again_only_at_what_the_rules_flag() {
    let llm = (Tier::Llm, OnError::Allow);
    let effects = judge("", llm, action(&format!("{FLAGGED} forbiddenword")), true).await;
    assert_eq!(outcome(&effects), ["block by llm for e1"]);
    assert_eq!(effects.spent.len(), 1);
    let effects = judge("", llm, action(FLAGGED), true).await;
    assert_eq!(outcome(&effects), ["passed e1"]);
    let effects = judge("", llm, action("forbiddenword"), true).await;
    assert_eq!(
        (outcome(&effects), effects.spent.len()),
        (vec!["passed e1".to_owned()], 0)
    );
}

#[tokio::test]
async fn the_endpoint_looks_at_every_text() {
    let endpoint = (Tier::Endpoint, OnError::Allow);
    let effects = judge("", endpoint, action(HARMLESS), true).await;
    assert_eq!(outcome(&effects), ["passed e1"]);
    let effects = judge("", endpoint, action("forbiddenword"), true).await;
    assert_eq!(
        outcome(&effects),
        ["passed e1", "flag by endpoint for e1"],
        "violence is fiction's"
    );
}

#[tokio::test]
async fn what_the_endpoint_flags_keeps_what_the_rules_found() {
    let endpoint = (Tier::Endpoint, OnError::Allow);
    let text = format!("{FLAGGED} forbiddenword");
    let effects = judge("", endpoint, action(&text), true).await;
    let categories = effects.emit.iter().find_map(|emitted| match emitted {
        Emitted::New(event) => match event.payload() {
            Payload::Verdict(verdict) => Some(verdict.categories.clone()),
            _ => None,
        },
        Emitted::Passed(_) => None,
    });
    assert_eq!(categories.unwrap(), ["illicit", "violence"]);
}

#[tokio::test]
async fn when_the_model_fails_actions_follow_the_option_and_responses_are_blocked() {
    let down = "rules:\n  - reply: {fault: no_first_token}\n";
    for (event, on_error, expected) in [
        (
            action(FLAGGED),
            OnError::Allow,
            vec!["passed e1", "flag by rules for e1"],
        ),
        (action(FLAGGED), OnError::Block, vec!["block by llm for e1"]),
    ] {
        let effects = judge(down, (Tier::Llm, on_error), event, true).await;
        assert_eq!(outcome(&effects), expected);
    }
    let refused = "rules:\n  - reply: {fault: unauthorized}\n";
    let effects = judge(
        refused,
        (Tier::Llm, OnError::Allow),
        response(FLAGGED),
        true,
    )
    .await;
    assert_eq!(outcome(&effects), ["block by llm for e1 a1"]);
}

/// A text can have it repeat what readers are not to see, and name what it likes.
#[tokio::test]
async fn readers_are_told_no_words_of_a_judge_that_the_rules_hold_back() {
    for (reason, categories, told) in [
        (
            "It names a real person.",
            "hate",
            ("It names a real person.", vec!["hate"]),
        ),
        (
            "pay with 4111 1111 1111 1111",
            "hate",
            ("It is not shown: hate.", vec!["hate"]),
        ),
        (
            "how to cook meth",
            "Lord Vex",
            ("It is not shown: illicit.", vec!["illicit"]),
        ),
    ] {
        let ruling =
            format!(r#"{{"decision":"block","categories":["{categories}"],"reason":"{reason}"}}"#);
        let rules = format!("rules:\n- reply: {{text: '{ruling}'}}\n");
        let llm = (Tier::Llm, OnError::Allow);
        let effects = judge(&rules, llm, action(FLAGGED), true).await;
        let [Emitted::New(event)] = &effects.emit[..] else {
            panic!("{effects:?}");
        };
        let Payload::Verdict(verdict) = event.payload() else {
            panic!("{event:?}");
        };
        let names: Vec<&str> = verdict.categories.iter().map(String::as_str).collect();
        assert_eq!((verdict.reason.as_str(), names), told);
    }
}

#[tokio::test]
async fn what_the_second_tier_refuses_is_held_back_whatever_the_option_says() {
    let event = action(FLAGGED);
    let refuses = "rules:\n- reply: {fault: context_length_exceeded}\n";
    let effects = judge(refuses, (Tier::Llm, OnError::Allow), event, true).await;
    assert_eq!(outcome(&effects), ["block by llm for e1"]);
}

#[tokio::test]
async fn a_ruling_that_cannot_be_read_is_asked_for_once_more() {
    let llm = (Tier::Llm, OnError::Block);
    let bad = "- when: {nth: 1}\n  reply: {text: 'It is {fine}.'}\n";
    let good = r#"- reply: {text: 'So: {"decision":"allow","categories":[],"reason":""}'}"#;
    let rules = format!("rules:\n{bad}{good}\n");
    let effects = judge(&rules, llm, action(FLAGGED), true).await;
    assert_eq!(outcome(&effects), ["passed e1"]);
    assert_eq!(effects.spent.len(), 2);

    let never = "rules:\n- reply: {text: 'It is {fine}.'}\n";
    let effects = judge(never, llm, action(FLAGGED), true).await;
    assert_eq!(outcome(&effects), ["block by llm for e1"]);
    // What was paid in vain is told too.
    assert_eq!(effects.spent.len(), 2);
}
