//! What a terminal shows that is too small for all of it, and what its keys bring back.

use super::super::keys::Page;
use super::*;

#[test]
fn no_terminal_is_too_small() {
    let state = model().0.state();
    for page in [Page::All, Page::Notes, Page::Workers, Page::Help] {
        for (width, height) in [(1, 1), (80, 2), (20, 5), (300, 100)] {
            let mut controls = Controls {
                page,
                ..Controls::default()
            };
            screen(&state, &mut controls, width, height);
        }
    }
}

#[test]
fn the_smallest_terminal_shows_agents_the_worst_note_and_workers() {
    let state = model().0.state();
    insta::assert_snapshot!(screen(&state, &mut Controls::default(), 40, 10));
}

#[test]
fn a_low_terminal_loses_what_matters_least() {
    let state = model().0.state();
    insta::assert_snapshot!(screen(&state, &mut Controls::default(), 64, 17));
}

#[test]
fn every_note_can_be_read_on_the_smallest_terminal() {
    let state = model().0.state();
    let mut controls = Controls {
        page: Page::Notes,
        ..Controls::default()
    };
    insta::assert_snapshot!(screen(&state, &mut controls, 40, 10));
    controls.scroll = 100;
    let last = screen(&state, &mut controls, 40, 10).to_string();
    assert!(last.contains("more workers do not help"), "{last}");
}

#[test]
fn the_help_can_be_read_to_its_end_on_the_smallest_terminal() {
    let state = model().0.state();
    let mut controls = Controls {
        page: Page::Help,
        scroll: 100,
        ..Controls::default()
    };
    let last = screen(&state, &mut controls, 40, 10).to_string();
    assert!(last.contains("SEEN"), "{last}");
    let rows = controls.scroll;
    // One up is one row up, at once.
    controls.scroll -= 1;
    let before = screen(&state, &mut controls, 40, 10).to_string();
    assert!(rows > 20 && before != last, "{rows}: {before}");
}

#[test]
fn every_worker_can_be_reached_on_the_smallest_terminal() {
    let state = model().0.state();
    let mut controls = Controls {
        page: Page::Workers,
        ..Controls::default()
    };
    let all = screen(&state, &mut controls, 40, 10).to_string();
    let names = ["\"moderator ", "\"narrator ", "\"dialogue "];
    let is_worker = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let shown = all.lines().filter(is_worker);
    assert_eq!(shown.count(), state.workers.len(), "{all}");
    controls.page = Page::All;
    controls.scroll = 100;
    let last = screen(&state, &mut controls, 40, 10).to_string();
    let workers: Vec<_> = last
        .lines()
        .skip_while(|line| !line.contains("WORKER"))
        .collect();
    assert!(
        workers[1].contains("narrator") && workers[2].contains("narrator"),
        "{last}"
    );
}
