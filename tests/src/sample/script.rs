//! What the players of the sample do, turn by turn.

use story::{Action, Mode};

/// Who, and what: to a character where one is named. An empty text takes the first choice that is offered.
const SCRIPT: [(&str, &str, &str); 30] = [
    (
        "Mira",
        "",
        "I knock on the door of the lighthouse and hold up my lantern.",
    ),
    ("Mira", "Sibyl", "Why did the lamp go out?"),
    ("Jon", "", "I look at the sea. Why does the tide not turn?"),
    ("Mira", "", ""),
    ("Jon", "Corvin", "Will you come up the stairs with us?"),
    (
        "Mira",
        "",
        "I break the green seal and read the letter aloud.",
    ),
    (
        "Mira",
        "Wren",
        "Did you really light the lamp the first time?",
    ),
    ("Jon", "", ""),
    ("Mira", "", "I climb the stairs and count the steps."),
    ("Jon", "Sibyl", "How many steps are there going down?"),
    (
        "Mira",
        "",
        "I stop at a window and look at the rocks below.",
    ),
    (
        "Jon",
        "",
        "I go down into the cellar that Wren came out of.",
    ),
    ("Jon", "Wren", "What is down there?"),
    ("Mira", "", ""),
    (
        "Mira",
        "",
        "I take a lump of dried kelp and press oil from it.",
    ),
    ("Jon", "Corvin", "Hold this rope. Do not let go."),
    ("Mira", "", "I clean the glass of the lamp with my sleeve."),
    ("Mira", "Sibyl", "Whose names will I hear?"),
    ("Jon", "", ""),
    ("Mira", "", "I pour the oil into the lamp."),
    ("Jon", "", "I stand at the door and listen for the sea."),
    ("Jon", "Wren", "Who asked you to light it?"),
    (
        "Mira",
        "",
        "I strike a match. It goes out. I strike another.",
    ),
    ("Mira", "", ""),
    (
        "Jon",
        "Sibyl",
        "Is there another way to make the tide turn?",
    ),
    ("Mira", "", "I light the lamp and listen."),
    ("Jon", "", "I run up the stairs to Mira."),
    ("Mira", "Corvin", "Was one of the names yours?"),
    ("Jon", "", "I look out at the water."),
    ("Mira", "", "I burn the letter in the flame of the lamp."),
];

/// Turn `number`, from the start again after the last; `offered` is the id of the first choice that there is.
pub(super) fn action(number: u16, offered: Option<String>) -> (&'static str, Action) {
    let (player, to, text) = SCRIPT[usize::from(number) % SCRIPT.len()];
    let (mode, text, choice) = match (text, to, offered) {
        ("", _, Some(choice)) => (Mode::Choose, "", Some(choice)),
        ("", _, None) => (Mode::Do, "I wait and look around.", None),
        (text, "", _) => (Mode::Do, text, None),
        (text, _, _) => (Mode::Say, text, None),
    };
    let action = Action {
        mode,
        text: text.to_owned(),
        to: Some(to.to_owned()).filter(|to| !to.is_empty()),
        choice,
        target: None,
    };
    (player, action)
}
