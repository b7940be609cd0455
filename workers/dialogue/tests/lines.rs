//! The dialogue agent against the mock model over real HTTP.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use agent::{Agent, Bounds, Effects, Emitted, HandleError, Turn, Window};
use dialogue::Dialogue;
use llm::{Counter, Counting};
use rehearsal::event;
use scene::Budget;
use story::{Action, Event, LogEntry, Mode, Narration, Payload, Seq, Speak};

/// What the agent makes of `event`'s step `part` when the mock answers by `rules`.
async fn say(rules: &str, event: Event, part: u32) -> Result<Effects, HandleError> {
    let turn = Turn {
        part,
        ..rehearsal::turn(story::Agent::Dialogue, event)
    };
    let dialogue = Dialogue::new(Budget::default());
    rehearsal::play(&format!("rules:\n{rules}"), &dialogue, turn).await
}

fn spoken_to(name: &str) -> Event {
    let action = Action {
        to: Some(name.to_owned()),
        ..rehearsal::action(Mode::Say, "Who are you?")
    };
    event("e1", Payload::Action(action))
}

fn narration() -> Event {
    let speak = ["Oto", "Sibyl"].map(|name| Speak {
        character: name.to_owned(),
        intent: "warn".to_owned(),
    });
    let narration = Narration {
        speak: speak.into(),
        ..rehearsal::narration("Dust falls.")
    };
    let mut event = event("e1", Payload::Narration(narration));
    event.hop = 1;
    event
}

/// Who said what, and how many calls it took.
fn said(effects: &Effects) -> (&str, &str, usize) {
    let [Emitted::New(event)] = &effects.emit[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(event.cause, ["e1".parse().unwrap()]);
    match event.payload() {
        Payload::Dialogue(said) => (&said.character, &said.text, effects.spent.len()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_character_answers_whom_speaks_to_them() {
    let rules = "  - reply: {text: \"Sibyl: “Go back.”\"}\n";
    let effects = say(rules, spoken_to("Sibyl"), 0).await.unwrap();
    assert_eq!(said(&effects), ("Sibyl", "Go back.", 1));
}

#[test]
fn a_request_tells_how_many_tokens_it_may_have() {
    let dialogue = Dialogue::new(Budget::default());
    let counting = Counting::Estimate(500);
    let window = Window::fixed(Bounds {
        tokens: 8_192,
        answer: 1_000,
        is_assumed: false,
        counting,
    });
    let turn = Turn {
        window: Some(window),
        prompts: dialogue.prompts(None).unwrap(),
        ..rehearsal::turn(story::Agent::Dialogue, spoken_to("Sibyl"))
    };
    let (request, _) = dialogue.request(&turn).unwrap().unwrap();
    let counted = Counter::new(counting).request(&request) as u64;
    assert_eq!(request.tokens, Some(counted + counted.div_ceil(4)));
}

#[tokio::test]
async fn each_step_of_a_narration_is_the_line_of_its_own_character() {
    let rules = "  - reply: {text: \"Go back.\"}\n";
    for (part, name) in [(0, "Oto"), (1, "Sibyl")] {
        let effects = say(rules, narration(), part).await.unwrap();
        assert_eq!(said(&effects), (name, "Go back.", 1));
    }
    assert_eq!(
        say(rules, narration(), 2).await.unwrap_err().class,
        "unsupported"
    );
}

#[tokio::test]
async fn an_answer_in_anothers_name_is_asked_for_once_more() {
    let rules =
        "  - when: {nth: 1}\n    reply: {text: \"Mira: No!\"}\n  - reply: {text: \"Go back.\"}\n";
    let effects = say(rules, spoken_to("Sibyl"), 0).await.unwrap();
    assert_eq!(said(&effects), ("Sibyl", "Go back.", 2));
}

#[tokio::test]
async fn a_character_who_stays_silent_twice_is_a_failure() {
    let rules = "  - reply: {text: \"Sibyl:\"}\n";
    let error = say(rules, spoken_to("Sibyl"), 0).await.unwrap_err();
    assert_eq!((error.class, error.tries), ("empty", 2));
}

#[tokio::test]
async fn nobody_of_that_name_is_told_to_readers() {
    let error = say("  - reply: {text: \"x\"}\n", spoken_to("Ghost"), 0)
        .await
        .unwrap_err();
    assert_eq!(error.class, "no_character");
    assert!(error.notice.contains("Nobody of that name"));
}

#[test]
fn what_a_character_is_asked_with_fits_into_any_window() {
    let dialogue = Dialogue::new(Budget::default());
    let prompts = dialogue.prompts(None).unwrap();
    let long = "The harbour sleeps under snow, and nobody remembers who lit the lamp. ".repeat(9);
    let mut fitted = 0;
    for tokens in (200..6_000).step_by(100) {
        let mut turn = Turn {
            window: Some(Window::fixed(Bounds {
                tokens,
                answer: 1_000,
                is_assumed: false,
                counting: Counting::Estimate(333),
            })),
            prompts: prompts.clone(),
            ..rehearsal::turn(story::Agent::Dialogue, spoken_to("Sibyl"))
        };
        turn.context.history = (1..30)
            .map(|seq| LogEntry {
                seq: Seq(seq),
                event: event(
                    &format!("n{seq}"),
                    Payload::Narration(rehearsal::narration(&long)),
                ),
            })
            .collect();
        turn.context.lore.insert("lamp".to_owned(), long.clone());
        let window = turn.window.clone().unwrap();
        match dialogue.request(&turn) {
            Ok(asked) => {
                let (request, manifest) = asked.unwrap();
                fitted += 1;
                assert!(
                    window.counter.request(&request) <= window.room(Some(120)),
                    "{tokens}"
                );
                assert_eq!(manifest.characters, ["Sibyl"]);
                assert!(request.texts().last().unwrap().contains("Who are you?"));
            }
            Err(error) => assert_eq!((error.class, fitted), ("context", 0), "{tokens}"),
        }
    }
    assert!((40..58).contains(&fitted), "{fitted}");
}
