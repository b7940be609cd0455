//! Places that are unknown, of another history, or of long ago, one by one.

use super::*;

#[test]
fn a_place_that_cannot_be_known_is_told_from_one_that_is_of_another_history() {
    let mut world = World::new();
    world.act();
    let here = Cursor::clone(&world.memory.at);
    let mut other = here.clone();
    other.epoch = "other".to_owned();
    let mut ahead = here.clone();
    ahead.seq = Seq(9);
    let mut tagged = here.clone();
    tagged.tag = Tag::START;
    for cursor in [other, ahead, tagged] {
        assert!(
            matches!(world.memory.join(&cursor, false), Join::Unknown),
            "{cursor}"
        );
        assert!(
            matches!(world.memory.join(&cursor, true), Join::Other),
            "{cursor}"
        );
    }
    assert!(matches!(world.memory.join(&here, false), Join::Here(items) if items.is_empty()));
}

#[test]
fn what_is_too_old_is_in_the_log_and_what_was_taken_back_is_not_remembered() {
    let mut world = World::new();
    let first = Cursor::clone(&world.memory.at);
    for _ in 0..EVENTS {
        world.act();
    }
    assert!(matches!(world.memory.join(&first, false), Join::Here(items) if items.len() == EVENTS));
    world.act();
    assert!(matches!(world.memory.join(&first, false), Join::Log));
    let target = world.last.clone();
    let reason = String::new();
    let retracted = Payload::Retracted(story::Retracted { target, reason });
    let before = Cursor::clone(&world.memory.at);
    world.log(event(id("r"), AuthorKind::Agent, retracted));
    assert!(matches!(world.memory.join(&before, false), Join::Here(items) if items.len() == 1));
    assert!(world.memory.tail(2).is_none());
}

#[test]
fn a_failure_ends_the_draft_of_an_action_of_long_ago() {
    let mut world = World::new();
    world.take(&Step::Return(0, u8::MAX));
    world.take(&Step::Begin);
    for _ in 0..=EVENTS {
        world.act();
    }
    world.check();
    assert!(!world.readers[0].drafts.is_empty());
    world.take(&Step::Fail(0));
    world.check();
}
