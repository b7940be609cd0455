//! What is advised while models or turns fail: first that.

use bus::Open;

use super::*;

const KEYED: &str = "https://me:secret@models.example/v1 large model 1a2b3c4d";

fn open() -> Open {
    Open {
        model: KEYED.to_owned(),
        since: Duration::from_secs(130),
    }
}

/// The notes of a fleet, with what stands first in each.
fn notes(fleet: Fleet) -> Vec<(Level, String)> {
    let mut model = Model::of(String::new());
    model.take(look(Instant::now(), 0, Ok(fleet), Vec::new()));
    let notes = model.state().notes.into_iter();
    notes.map(|note| (note.level, note.text)).collect()
}

fn says(notes: &[(Level, String)], level: Level, words: &str) -> bool {
    notes
        .iter()
        .any(|(of, text)| *of == level && text.contains(words))
}

/// A narrator whose workers are there and hold so many of the events.
fn waiting(in_flight: u64, seen: u64) -> Fleet {
    let mut fleet = busy();
    fleet.queues[1].in_flight = in_flight;
    fleet.workers = vec![worker(Agent::Narrator, "n", in_flight, seen)];
    fleet.open = vec![open()];
    fleet
}

#[test]
fn events_that_wait_for_models_need_no_more_workers() {
    for (fleet, level, words) in [
        (
            waiting(0, 300),
            Level::Bad,
            "narrator: 140 wait for models that fail: more workers do not help",
        ),
        (
            waiting(0, 60_000),
            Level::Bad,
            "no narrator runs, or all its models fail: 140 wait",
        ),
        (
            waiting(128, 300),
            Level::Warning,
            "narrator: 12 wait for a place, its workers hold 128: first see to what fails",
        ),
    ] {
        let notes = notes(fleet);
        assert!(says(&notes, level, words), "{notes:#?}");
        assert!(!format!("{notes:?}").contains("more workers help"));
        let named = "left alone for 2m: large model at https://models.example/v1";
        assert!(says(&notes, Level::Warning, named), "{notes:#?}");
        assert!(!format!("{notes:?}").contains("secret"), "{notes:#?}");
    }
}

#[test]
fn where_most_turns_fail_nobody_is_told_to_add_workers() {
    let told = |buried: u64| {
        let (mut model, start) = (Model::of(String::new()), Instant::now());
        let mut later = busy();
        (later.queues[1].ended, later.queues[1].buried) = (1_100, 5 + buried);
        for (seconds, fleet) in [(0, busy()), (5, later)] {
            model.take(look(start, seconds, Ok(fleet), Vec::new()));
        }
        format!("{:?}", model.state().notes)
    };
    let (most, few) = (told(51), told(49));
    assert!(most.contains("first see to what fails"), "{most}");
    assert!(!most.contains("more workers help"), "{most}");
    assert!(few.contains("more workers help"), "{few}");
}
