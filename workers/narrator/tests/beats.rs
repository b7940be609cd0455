//! The narrator against the mock model over real HTTP: what a turn becomes, whatever the model does.

#![allow(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use agent::{Effects, Emitted, HandleError, Turn};
use narrator::Narrator;
use rehearsal::{event, narration};
use scene::Budget;
use story::{Event, LogEntry, Mode, Narration, Payload, Seq, Status};
use tokio::time::timeout;

const BEAT: &str = "  - reply: {text: \"The door opens.\\n\\nDust falls.\\n@@@\\n{\\\"choices\\\":[\\\"Go in\\\",\\\"Wait\\\"],\\\"speak\\\":[{\\\"character\\\":\\\"Sibyl\\\",\\\"intent\\\":\\\"warn\\\"},{\\\"character\\\":\\\"Ghost\\\"}]}\"}\n";

fn action(id: &str, mode: Mode, text: &str) -> Event {
    event(id, Payload::Action(rehearsal::action(mode, text)))
}

fn turn(event: Event, waiting: Vec<Event>) -> Turn {
    Turn {
        waiting,
        ..rehearsal::turn(story::Agent::Narrator, event)
    }
}

/// What the narrator makes of a turn when the mock answers by `rules`.
async fn tell(rules: &str, turn: Turn) -> Result<Effects, HandleError> {
    let narrator = Narrator::new(Budget::default());
    rehearsal::play(&format!("rules:\n{rules}"), &narrator, turn).await
}

fn the_narration(effects: &Effects) -> (&Event, &Narration) {
    let [Emitted::New(event)] = &effects.emit[..] else {
        panic!("{effects:?}");
    };
    match event.payload() {
        Payload::Narration(narration) => (event, narration),
        other => panic!("{other:?}"),
    }
}

fn open() -> Event {
    action("a1", Mode::Do, "I open the door")
}

#[tokio::test]
async fn marks_that_the_model_copies_from_its_prompt_are_no_prose() {
    let copied = "  - reply: {text: \"<<<The door opens.>>>\\n<<<@@@\\n{}\"}\n";
    let effects = tell(copied, turn(open(), Vec::new())).await.unwrap();
    assert_eq!(the_narration(&effects).1.text, "The door opens.");
}

#[tokio::test]
async fn a_beat_answers_all_waiting_actions_up_to_one_that_it_cannot() {
    let waiting = vec![
        action("a2", Mode::Say, "Hello?"),
        action("a3", Mode::Story, "It rains"),
        action("a4", Mode::Undo, ""),
        action("a5", Mode::Do, "I wait"),
    ];
    let effects = tell(BEAT, turn(open(), waiting)).await.unwrap();
    let (event, narration) = the_narration(&effects);
    let cause: Vec<&str> = event.cause.iter().map(|id| id.as_str()).collect();
    assert_eq!((effects.merged, cause), (2, vec!["a1", "a2", "a3"]));
    assert_eq!(event.hop, 1);
    assert_eq!(narration.text, "The door opens.\n\nDust falls.");
    assert_eq!(narration.status, Status::Complete);
    let choices = narration.choices.iter();
    let choices: Vec<_> = choices.map(|one| (one.id.clone(), &*one.label)).collect();
    let named = |n| format!("{}.{n}", event.id);
    assert_eq!(choices, [(named(1), "Go in"), (named(2), "Wait")]);
    let speakers: Vec<&str> = narration
        .speak
        .iter()
        .map(|one| one.character.as_str())
        .collect();
    assert_eq!(speakers, ["Sibyl"]);
    let report = narration.llm.as_ref().unwrap();
    assert!(
        report.prompt.starts_with("narrator-system@5#"),
        "{}",
        report.prompt
    );
    assert!(
        report.tokens_in > 100 && report.tokens_out > 3,
        "{report:?}"
    );
}

#[tokio::test]
async fn a_beat_has_at_most_eight_actions() {
    let waiting = (2..20).map(|n| action(&format!("a{n}"), Mode::Do, "I wait"));
    let effects = tell(BEAT, turn(open(), waiting.collect())).await.unwrap();
    assert_eq!(effects.merged, 7);
    assert_eq!(the_narration(&effects).0.cause.len(), 8);
}

#[tokio::test]
async fn long_texts_do_not_fill_the_models_window() {
    let long = "I wait. ".repeat(5_000);
    let mut turn = turn(open(), vec![action("a2", Mode::Do, &long)]);
    turn.context.lore = (0..20).map(|n| (format!("k{n}"), long.clone())).collect();
    let entries = (1..=40).map(|seq| LogEntry {
        seq: Seq(seq),
        event: event(
            &format!("n{seq}"),
            Payload::Narration(narration(&format!("{seq} {long}"))),
        ),
    });
    turn.context.history = entries.collect();
    let effects = tell(BEAT, turn).await.unwrap();
    let report = the_narration(&effects).1.llm.clone().unwrap();
    assert!((5_000..10_000).contains(&report.tokens_in), "{report:?}");
    assert_eq!(effects.merged, 0);
}

#[tokio::test]
async fn a_private_action_does_not_join_a_public_beat() {
    let mut whisper = action("a2", Mode::Do, "I hide the key");
    whisper.audience = Some(vec!["u1".to_owned()]);
    let effects = tell(BEAT, turn(open(), vec![whisper])).await.unwrap();
    assert_eq!(effects.merged, 0);
}

#[tokio::test]
async fn a_bad_trailer_is_asked_for_once_more() {
    for fault in ["no_trailer", "bad_trailer"] {
        let rules = format!("  - when: {{nth: 1}}\n    reply: {{fault: {fault}}}\n");
        let effects = tell(&rules, turn(open(), Vec::new())).await.unwrap();
        let (_, narration) = the_narration(&effects);
        assert_eq!(effects.spent.len(), 2, "{fault}");
        assert!(
            (1..=3).contains(&narration.choices.len()),
            "{fault}: {narration:?}"
        );
        assert!(!narration.text.contains("@@@"), "{fault}");
    }
}

#[tokio::test]
async fn prose_stands_without_choices_when_the_second_call_fails_too() {
    let rules = "  - reply: {text: \"Dust falls.\"}\n";
    let effects = tell(rules, turn(open(), Vec::new())).await.unwrap();
    let (_, narration) = the_narration(&effects);
    assert_eq!(
        (narration.text.as_str(), narration.choices.len()),
        ("Dust falls.", 0)
    );
    assert_eq!(narration.status, Status::Complete);
}

#[tokio::test]
async fn prose_does_not_wait_for_choices_that_do_not_come() {
    let rules = "  - when: {nth: 1}\n    reply: {text: \"Dust falls.\"}\n  - reply: {fault: no_first_token}\n";
    let told = tell(rules, turn(open(), Vec::new()));
    // Long before the model's own deadline for a first token, and again.
    let effects = timeout(llm::Deadlines::default().first_token, told)
        .await
        .unwrap()
        .unwrap();
    let (_, narration) = the_narration(&effects);
    assert_eq!(
        (narration.text.as_str(), narration.choices.len()),
        ("Dust falls.", 0)
    );
}

#[tokio::test]
async fn an_answer_without_text_is_asked_for_once_more_and_then_a_failure() {
    let error = tell("  - reply: {text: \"\"}\n", turn(open(), Vec::new()))
        .await
        .unwrap_err();
    assert_eq!((error.class, error.tries), ("empty", 2));

    let rules = "  - when: {nth: 1}\n    reply: {text: \"\"}\n  - reply: {text: \"Dust falls.\"}\n";
    let effects = tell(rules, turn(open(), Vec::new())).await.unwrap();
    let (_, narration) = the_narration(&effects);
    assert_eq!(narration.text, "Dust falls.");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_in_words_for_readers() {
    for (mode, says) in [
        (Mode::Undo, "undo"),
        (Mode::Regenerate, "anew"),
        (Mode::Do, "nothing"),
    ] {
        let error = tell(BEAT, turn(action("a1", mode, " "), Vec::new()))
            .await
            .unwrap_err();
        assert_eq!(error.class, "unsupported");
        assert!(error.notice.contains(says), "{}", error.notice);
    }
}

#[tokio::test]
async fn a_stream_that_always_breaks_off_is_told_to_its_last_sentence() {
    for fault in ["eof", "no_finish_reason"] {
        let text = "Dust falls. Beyond it lies a long hall.";
        let rules = format!("  - reply: {{text: \"{text}\", fault: {fault}(5)}}\n");
        let effects = tell(&rules, turn(open(), Vec::new())).await.unwrap();
        let (_, narration) = the_narration(&effects);
        assert_eq!(
            (narration.text.as_str(), narration.status),
            ("Dust falls.", Status::Truncated),
            "{fault}"
        );
        let report = narration.llm.as_ref().unwrap();
        assert_eq!((report.tries, report.finish.as_str()), (3, "truncated"));
    }
}
