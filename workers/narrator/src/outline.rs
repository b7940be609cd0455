//! What follows a beat: choices for the players and who speaks up, as the model writes it.

use std::collections::{BTreeMap, BTreeSet};

use llm::{Schema, Short, Unreadable};
use scene::plain;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use story::{Character, Choice, EventId, Speak};
use tracing::debug;

/// Most choices, and most speakers, of a beat.
const MOST: usize = 3;

/// Most characters of a choice, and of why somebody speaks.
const LONGEST: usize = 400;

/// Choices and speakers that the story can use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) choices: Vec<Choice>,
    pub(crate) speak: Vec<Speak>,
}

/// As the model writes it; a missing list of choices is a mistake, not an empty one. What is over [`MOST`] is left out, but
/// what is longer than anybody reads is no choice.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Written {
    #[schemars(length(min = 2, max = MOST))]
    choices: Vec<Short<LONGEST>>,
    #[serde(default)]
    #[schemars(length(max = MOST))]
    speak: Vec<Speaker>,
}

#[derive(Deserialize, JsonSchema)]
struct Speaker {
    character: String,
    #[serde(default)]
    intent: Short<LONGEST>,
}

impl Outline {
    /// Reads the JSON that `text` holds, whatever is around it.
    ///
    /// # Errors
    /// When there is no such JSON.
    pub(crate) fn read(
        text: &str,
        narration: &EventId,
        characters: &BTreeMap<String, Character>,
    ) -> Result<Self, Unreadable> {
        let written = llm::read(text)?;
        Ok(Self::new(written, narration, characters))
    }

    /// Characters that the story does not have are left out, as is what is over [`MOST`]. The choices are named after their
    /// `narration`: whoever takes one means that one, whatever was told since.
    pub(crate) fn new(
        written: Written,
        narration: &EventId,
        characters: &BTreeMap<String, Character>,
    ) -> Self {
        let mut outline = Self::default();
        for label in written.choices.into_iter().map(String::from) {
            let label = label.split_whitespace().collect::<Vec<_>>().join(" ");
            let known = outline.choices.iter().any(|choice| choice.label == label);
            if !label.is_empty() && !known && outline.choices.len() < MOST {
                let id = format!("{narration}.{}", outline.choices.len() + 1);
                outline.choices.push(Choice { id, label });
            }
        }
        for speaker in written.speak {
            let Some(name) = called(&speaker.character, characters) else {
                debug!(%narration, "somebody who is not in the story was to speak");
                continue;
            };
            let known = outline.speak.iter().any(|one| one.character == *name);
            if !known && outline.speak.len() < MOST {
                outline.speak.push(Speak {
                    character: name.clone(),
                    intent: speaker.intent.into(),
                });
            }
        }
        outline
    }
}

/// The character's name as the story has it. Models see it made plain, and write it in capitals or without.
fn called<'a>(written: &str, characters: &'a BTreeMap<String, Character>) -> Option<&'a String> {
    let even = |name: &str| plain(name).to_lowercase();
    let (exact, written) = (characters.get_key_value(written), even(written));
    let alike = || characters.keys().find(|name| even(name) == written);
    exact.map(|(name, _)| name).or_else(alike)
}

/// The schema of an outline in a story with these characters, as the prompt shows them: some providers put it into the prompt
/// too. Without any, nobody can speak.
#[must_use]
pub(crate) fn schema(characters: &BTreeMap<String, Character>) -> Schema {
    let names: BTreeSet<String> = characters.keys().map(|name| plain(name)).collect();
    Schema::narrowed::<Written>("outline", |schema| {
        let properties = &mut schema["properties"];
        if names.is_empty() {
            properties.as_object_mut().map(|all| all.remove("speak"));
        } else {
            properties["speak"]["items"]["properties"]["character"] = json!({"enum": names});
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast() -> BTreeMap<String, Character> {
        ["Oto", "Sibyl"]
            .map(|name| (name.to_owned(), Character::default()))
            .into()
    }

    fn read(text: &str) -> Result<Outline, Unreadable> {
        Outline::read(text, &"n1".parse().unwrap(), &cast())
    }

    fn labels(outline: &Outline) -> Vec<(&str, &str)> {
        let choices = outline.choices.iter();
        choices
            .map(|choice| (choice.id.as_str(), choice.label.as_str()))
            .collect()
    }

    #[test]
    fn a_character_is_known_as_the_prompt_shows_it_and_in_any_case() {
        let names =
            ["[Guard]", "Sibyl", "sibyl"].map(|name| (name.to_owned(), Character::default()));
        let text = r#"{"choices":["Run"],"speak":[{"character":"(guard)"},{"character":"sibyl"},{"character":"SIBYL"}]}"#;
        let outline = Outline::read(text, &"n1".parse().unwrap(), &names.into()).unwrap();
        let speakers: Vec<_> = outline
            .speak
            .iter()
            .map(|one| one.character.as_str())
            .collect();
        assert_eq!(speakers, ["[Guard]", "sibyl", "Sibyl"]);
    }

    #[test]
    fn only_characters_of_the_story_speak_and_only_three_choices_are_kept() {
        let text = "\n```json\n{\"choices\":[\"Run\",\" \",\"Run\",\"Hide\\n now\",\"Wait\",\"Sing\"],\"speak\":[{\"character\":\"Ghost\"},{\"character\":\"Sibyl\",\"intent\":\"warn\"},{\"character\":\"Sibyl\"}]}\n```";
        let outline = read(text).unwrap();
        assert_eq!(
            labels(&outline),
            [("n1.1", "Run"), ("n1.2", "Hide now"), ("n1.3", "Wait")]
        );
        let speakers: Vec<&str> = outline
            .speak
            .iter()
            .map(|one| one.character.as_str())
            .collect();
        assert_eq!(speakers, ["Sibyl"]);
        assert_eq!(outline.speak[0].intent, "warn");
    }

    #[test]
    fn what_is_no_outline_is_an_error() {
        for bad in [
            "",
            "no",
            "{",
            "}{",
            "{\"choices\":[\"Run\"",
            "{\"speak\":[]}",
            "{\"choices\":\"Run\"}",
            "é}é{",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("{\"choices\":[]}").unwrap(), Outline::default());
    }

    #[test]
    fn the_schema_lets_only_characters_of_the_story_speak() {
        insta::assert_snapshot!(schema(&cast()).text(), @r#"{"additionalProperties":false,"properties":{"choices":{"items":{"type":"string"},"maxItems":3,"minItems":2,"type":"array"},"speak":{"items":{"additionalProperties":false,"properties":{"character":{"enum":["Oto","Sibyl"]},"intent":{"type":"string"}},"required":["character","intent"],"type":"object"},"maxItems":3,"type":"array"}},"required":["choices","speak"],"type":"object"}"#);
        let named = |name: &str| (name.to_owned(), Character::default());
        let marked = schema(&[named("<|im_end|>"), named("‹|im_end|›")].into());
        let marked = marked.text();
        assert!(marked.contains(r#"{"enum":["‹|im_end|›"]}"#), "{marked}");
        insta::assert_snapshot!(schema(&BTreeMap::new()).text(), @r#"{"additionalProperties":false,"properties":{"choices":{"items":{"type":"string"},"maxItems":3,"minItems":2,"type":"array"}},"required":["choices"],"type":"object"}"#);
    }
}
