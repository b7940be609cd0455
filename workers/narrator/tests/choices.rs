//! The choices of a beat that came without them, however the model answers when it is asked for them alone.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use agent::{Emitted, Turn};
use narrator::Narrator;
use rehearsal::event;
use scene::Budget;
use story::{Mode, Narration, Payload};

const GOOD: &str =
    r#"{"choices":["Go in","Wait"],"speak":[{"character":"Sibyl","intent":"warn"}]}"#;

fn turn() -> Turn {
    let action = rehearsal::action(Mode::Do, "I open the door");
    rehearsal::turn(story::Agent::Narrator, event("a1", Payload::Action(action)))
}

/// What is told when the model gives a beat alone and then `answers`, and how many calls that cost.
async fn told(answers: &[&str]) -> (Narration, Vec<String>) {
    let mut rules = "rules:\n- when: {nth: 1}\n  reply: {text: \"Dust falls.\"}\n".to_owned();
    for answer in answers {
        let answer = serde_json::json!(answer);
        rules += &format!("- when: {{nth: 1}}\n  reply: {{text: {answer}}}\n");
    }
    rules += "- reply: {fault: unauthorized}\n";
    let narrator = Narrator::new(Budget::default());
    let effects = rehearsal::play(&rules, &narrator, turn()).await.unwrap();
    let [Emitted::New(event)] = &effects.emit[..] else {
        panic!("{effects:?}");
    };
    let Payload::Narration(narration) = event.payload() else {
        panic!("{event:?}");
    };
    let finishes = effects.spent.into_iter().map(|spent| spent.finish);
    (narration.clone(), finishes.collect())
}

#[tokio::test]
async fn an_answer_in_fences_and_words_is_read() {
    for answer in [
        GOOD.to_owned(),
        format!("```json\n{GOOD}\n```"),
        format!("Here you {{are}}:\n{GOOD}\nShall I go on?"),
    ] {
        let (narration, calls) = told(&[&answer]).await;
        assert_eq!(narration.choices.len(), 2, "{answer}");
        assert_eq!(narration.speak[0].character, "Sibyl");
        assert_eq!(calls.len(), 2, "{answer}");
    }
}

#[tokio::test]
async fn a_bad_answer_is_asked_for_once_more_and_then_the_prose_stands() {
    let long = format!(r#"{{"choices":["{}"]}}"#, "word ".repeat(100));
    for bad in [
        "",
        "I would rather not.",
        "{\"choices\":",
        r#"{"choices":"Run"}"#,
        &long,
        "<html></html>",
    ] {
        let (narration, calls) = told(&[bad, GOOD]).await;
        assert_eq!((narration.choices.len(), calls.len()), (2, 3), "{bad}");
        let (narration, calls) = told(&[bad, bad, GOOD]).await;
        assert_eq!((narration.choices.len(), calls.len()), (0, 3), "{bad}");
        assert_eq!(narration.text, "Dust falls.");
    }
}

#[tokio::test]
async fn an_answer_that_the_limit_cut_is_asked_for_once_with_twice_of_it() {
    // The prompt lets it have 200 tokens.
    let [fits_twice, never_ends] = [60, 600].map(|words| {
        let choice = "a door of dust opens ".repeat(words);
        format!(r#"{{"choices":["Go in","Wait"],"thoughts":"{choice}"}}"#)
    });
    let (narration, calls) = told(&[&fits_twice, &fits_twice]).await;
    assert_eq!(narration.choices.len(), 2);
    assert_eq!(calls, ["stop", "length", "stop"]);
    let (narration, calls) = told(&[&never_ends, &never_ends, GOOD]).await;
    assert_eq!(narration.choices.len(), 0);
    assert_eq!(calls, ["stop", "length", "length"]);
    let (narration, calls) = told(&[&fits_twice, "None.", GOOD]).await;
    assert_eq!(narration.choices.len(), 2);
    assert_eq!(calls, ["stop", "length", "stop", "stop"]);
}
