//! What is told once Redis was away, has just begun, or was not looked at for a while.

use super::*;

fn lost() -> Result<Fleet, Failure> {
    Err(Failure {
        is_away: true,
        is_configuration: false,
        why: "refused".to_owned(),
    })
}

/// With so many turns of the narrator ended.
fn ended(turns: u64) -> Fleet {
    let mut fleet = busy();
    fleet.queues[1].ended = turns;
    fleet
}

fn rate(model: &Model) -> Option<f64> {
    model.state().agents.remove(1).answered_per_s
}

#[test]
fn a_rate_is_of_nothing_that_came_while_redis_was_away() {
    let (mut model, start) = (Model::of(String::new()), Instant::now());
    for second in 0..5_i64 {
        let turns = 1_000 + 2 * second.unsigned_abs();
        model.take(look(start, second, Ok(ended(turns)), Vec::new()));
    }
    assert_eq!(rate(&model), Some(2.0));
    for second in 5..65 {
        model.take(look(start, second, lost(), Vec::new()));
    }
    // A hundred ended meanwhile, and three a second do since.
    model.take(look(start, 65, Ok(ended(1_108)), Vec::new()));
    assert_eq!(rate(&model), None);
    for second in 66..90_i64 {
        let turns = 1_108 + 3 * (second - 65).unsigned_abs();
        model.take(look(start, second, Ok(ended(turns)), Vec::new()));
        assert_eq!(rate(&model), Some(3.0), "{second}");
    }
}

#[test]
fn a_rate_is_of_the_last_seconds_soon_after_looks_were_held() {
    let (mut model, start) = (Model::of(String::new()), Instant::now());
    model.take(look(start, 0, Ok(ended(1_000)), Vec::new()));
    model.take(look(start, 60, Ok(ended(1_120)), Vec::new()));
    assert_eq!(rate(&model), Some(2.0));
    model.take(look(start, 61, Ok(ended(1_129)), Vec::new()));
    assert_eq!(rate(&model), Some(9.0));
}

#[test]
fn who_was_not_heard_of_since_redis_began_is_called_neither_alive_nor_gone() {
    let mut fleet = busy();
    // As Redis tells them 4 s after it read its files: one of the narrators has asked since.
    for (worker, (seen, is_read)) in fleet.workers.iter_mut().zip([
        (3_900, true),
        (500, false),
        (3_900, true),
        (3_900, true),
        (3_900, true),
    ]) {
        (worker.seen, worker.is_read) = (Duration::from_millis(seen), is_read);
    }
    let mut model = Model::of(String::new());
    model.take(look(Instant::now(), 0, Ok(fleet), Vec::new()));
    let state = model.state();
    let alive: Vec<_> = state.workers.iter().map(|worker| worker.alive).collect();
    assert_eq!(alive, [None, Some(true), None, None, None]);
    let workers: Vec<_> = state.agents.iter().map(|row| row.workers).collect();
    assert_eq!(workers, [None, Some(1), None]);
    let text = view::text(&state, &Controls::default(), LOOKS, 100);
    assert_eq!(text.matches(" unheard\n").count(), 4, "{text}");
    for lie in ["no moderator runs", "silent", " gone"] {
        assert!(!text.contains(lie), "{lie}: {text}");
    }
}

#[test]
fn who_was_not_heard_of_since_redis_is_back_is_not_called_alive() {
    let (mut model, start) = (Model::of(String::new()), Instant::now());
    model.take(look(start, 0, Ok(busy()), Vec::new()));
    model.take(look(start, 1, lost(), Vec::new()));
    let at = |model: &mut Model, second: i64, seen: u64| {
        let mut fleet = busy();
        fleet.workers[1].seen = Duration::from_millis(seen);
        model.take(look(start, second, Ok(fleet), Vec::new()));
        let state = model.state();
        (state.workers[1].alive, state.workers[1].unheard)
    };
    // Its files were read for long, so that its process is old.
    assert_eq!(at(&mut model, 40, 5_000), (None, true));
    assert_eq!(at(&mut model, 41, 6_000), (None, true));
    assert_eq!(at(&mut model, 42, 300), (Some(true), false));
    assert_eq!(at(&mut model, 51, 11_000), (Some(false), false));
}
