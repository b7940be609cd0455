//! Names that others chose are shown, and do nothing else.

use super::*;

#[test]
fn nobody_drives_the_terminal_by_a_name() {
    let mut fleet = busy();
    fleet.workers[0].consumer = "x\u{1b}]0;owned\u{7}\n\u{202e}y\u{9b}2J".to_owned();
    fleet.servers[0].version = "7\u{1b}[31m".to_owned();
    let mut model = Model::of("redis://h".to_owned());
    model.take(look(Instant::now(), 0, Ok(fleet), Vec::new()));
    let state = model.state();
    let screen = screen(&state, &mut Controls::default(), 120, 40).to_string();
    let text = view::text(&state, &Controls::default(), LOOKS, 100);
    for shown in [screen, text, serde_json::to_string(&state).unwrap()] {
        let steers = |c: char| c != '\n' && (c.is_control() || ::story::steers(c));
        assert!(!shown.contains(steers), "{shown:?}");
        assert!(shown.contains("x]0;owned"), "{shown}");
    }
}
