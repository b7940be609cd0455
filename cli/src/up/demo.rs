//! The story that the first command shows.

use std::collections::BTreeMap;

use bus::{Bus, Error, NewStory, Role};
use story::{Character, InputPolicy, OutputPolicy, Policies, StoryId};

const PREMISE: &str = "On the rock of Hallow Point the lighthouse has burned for two hundred years. Tonight its lamp went \
out, the tide does not turn, and you stand at the door with a lantern and a letter that you have not opened.";

const STYLE: &str = "Second person, present tense. Quiet, exact, a little uncanny. Short paragraphs; weather and \
small objects before feelings.";

const CHARACTERS: [(&str, &str, &str); 3] = [
    (
        "Sibyl",
        "The keeper, past seventy, who has not left the rock in thirty years and knows why the lamp went out.",
        "Dry and patient. Answers a question with a smaller question. Never raises her voice.",
    ),
    (
        "Corvin",
        "A ferryman stranded by the tide, quick with his hands, afraid of the stairs and unwilling to say so.",
        "Talks fast, jokes when frightened, swears by ropes and knots.",
    ),
    (
        "Wren",
        "A girl of ten who came up from the cellar and says that she lit the lamp the first time.",
        "Plain short sentences. Says true things as if they were dull.",
    ),
];

const LORE: [(&str, &str); 4] = [
    (
        "the lamp",
        "It burns oil pressed from kelp. Whoever lights it hears the names of the drowned, once.",
    ),
    (
        "the tide",
        "At Hallow Point the sea has stood at its lowest mark since the lamp went out, and it makes no sound.",
    ),
    (
        "the stairs",
        "One hundred and eleven steps going up. Nobody has counted the same number going down.",
    ),
    (
        "the letter",
        "Sealed in green wax with the mark of the lighthouse board, which was dissolved long ago.",
    ),
];

/// Makes the demo story unless it is there.
pub(super) async fn create(id: &StoryId, bus: &Bus) -> Result<(), Error> {
    bus.check_rights(Role::Author).await?;
    match bus.create_story(&story(id)).await {
        Ok(()) | Err(Error::StoryExists(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn story(id: &StoryId) -> NewStory {
    let characters: BTreeMap<String, Character> = CHARACTERS
        .into_iter()
        .map(|(name, description, voice)| {
            let character = Character {
                description: description.to_owned(),
                voice: voice.to_owned(),
            };
            (name.to_owned(), character)
        })
        .collect();
    let lore = LORE.map(|(key, text)| (key.to_owned(), text.to_owned()));
    NewStory {
        title: "The lamp at Hallow Point".to_owned(),
        style: STYLE.to_owned(),
        premise: PREMISE.to_owned(),
        policies: Policies {
            input: InputPolicy::Hold,
            output: OutputPolicy::Retract,
            ..Policies::default()
        },
        characters,
        lore: lore.into(),
        ..NewStory::new(id.clone())
    }
}
