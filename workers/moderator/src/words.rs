//! What is judged of an event: every word that a reader could be shown, wherever it stands.

use serde_json::Value;
use story::{Author, Event};

/// Fields of known types that are words of the contract, and what the agents themselves write of a call.
const NO_WORDS: [&str; 3] = ["mode", "status", "llm"];

/// The words of all fields, those of unknown ones with their names, a line each. Ids are words too where a person may have
/// chosen them: all but numbers and UUIDs, since any of those may look like a card's. Numbers of known fields are not judged: nobody
/// wrote them.
#[must_use]
pub(crate) fn words(event: &Event) -> String {
    let mut fields = serde_json::to_value(event.payload())
        .unwrap_or_else(|error| unreachable!("a payload is always JSON: {error}"));
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|name, value| !NO_WORDS.contains(&name.as_str()) && !is_number(name, value));
    }
    let audience = event.audience.iter().flatten().map(String::as_str);
    let ids = std::iter::once(event.id.as_str()).chain(audience);
    let ids = ids.filter(|id| !numbers(id)).map(str::to_owned);
    let mut words: Vec<String> = ids.collect();
    words.push(who(&event.author).to_owned());
    collect(&fields, false, &mut words);
    for (name, value) in &event.extra {
        words.push(name.clone());
        collect(value, true, &mut words);
    }
    words.retain(|word| !word.is_empty());
    words.join("\n")
}

/// Whether the field is another event's id, and that a number.
fn is_number(name: &str, value: &Value) -> bool {
    name == "target" && value.as_str().is_some_and(numbers)
}

/// As a program makes them: UUIDs too, of which some have a card's number. What has letters otherwise is a word.
fn numbers(id: &str) -> bool {
    let is_number = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_number(id) || is_uuid(id)
}

fn is_uuid(id: &str) -> bool {
    let groups = id.split('-').map(str::len);
    let is_hex = id
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_hex && groups.eq([8, 4, 4, 4, 12])
}

/// Who has no name is shown by the id.
fn who(author: &Author) -> &str {
    match author.name.as_str() {
        "" if numbers(&author.id) => "",
        "" => &author.id,
        name => name,
    }
}

fn collect(value: &Value, unknown: bool, words: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) if unknown => words.push(number.to_string()),
        Value::Number(_) => {}
        Value::String(text) => words.push(text.clone()),
        Value::Array(values) => values
            .iter()
            .for_each(|value| collect(value, unknown, words)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if unknown {
                    words.push(name.clone());
                }
                collect(value, unknown, words);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use story::Decision;

    const CARD: &str = "4111 1111 1111 1111";

    fn with(kind: &str, fields: &Value) -> Event {
        let mut event = json!({
            "v": 1, "id": "1111-1111-1111-1111", "type": kind, "story": "castle", "text": "I wait",
            "author": {"kind": "user", "id": "1111222233334444", "name": "Mira"}, "at": "2026-11-24T01:02:03Z",
            "mode": "say", "character": "Oto", "status": "complete",
        });
        let known = event.as_object_mut().unwrap();
        known.extend(fields.as_object().unwrap().clone());
        Event::decode(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_id_of_letters_is_a_word_and_one_that_a_program_makes_is_none() {
        for (id, is_word) in [
            ("dead", true),
            ("dad-bead", true),
            ("4111111111111111a", true),
            ("1111-1111", false),
            ("41111111-1111-1111-8abc-def012345678", false),
            ("41111111-1111-1111-8abc-def01234567g", true),
        ] {
            let fields = json!({"author": {"kind": "user", "id": id, "name": ""}});
            let words = words(&with("action", &fields));
            assert_eq!(words.contains(id), is_word, "{words}");
        }
    }

    #[test]
    fn no_field_hides_words_from_the_rules() {
        for (kind, fields) in [
            ("action", json!({"text": CARD})),
            ("action", json!({"to": CARD})),
            ("action", json!({"target": CARD})),
            ("action", json!({"id": CARD})),
            ("action", json!({"audience": ["mira", CARD]})),
            ("action", json!({"choice": CARD})),
            (
                "action",
                json!({"author": {"kind": "user", "id": "u1", "name": CARD}}),
            ),
            (
                "action",
                json!({"author": {"kind": "user", "id": CARD, "name": ""}}),
            ),
            ("action", json!({"note": {"deep": [1, CARD]}})),
            ("action", json!({"note": {CARD: null}})),
            ("action", json!({CARD: true})),
            ("action", json!({"note": 4_111_111_111_111_111_u64})),
            ("action", json!({"llm": CARD})),
            (
                "narration",
                json!({"choices": [{"id": "c1", "label": CARD}]}),
            ),
            (
                "narration",
                json!({"speak": [{"character": CARD, "intent": ""}]}),
            ),
            (
                "narration",
                json!({"speak": [{"character": "Oto", "intent": CARD}]}),
            ),
            ("narration", json!({"target": CARD})),
            ("dialogue", json!({"character": CARD})),
        ] {
            let words = words(&with(kind, &fields));
            assert_eq!(
                moderation::Rules::default().judge(&words).decision,
                Decision::Block,
                "{words}"
            );
        }
    }

    #[test]
    fn ids_are_no_words() {
        let card = 4_111_111_111_111_111_u64;
        let event = with(
            "action",
            &json!({
                "target": card.to_string(), "audience": [card.to_string()], "cause": [card.to_string()],
                "author": {"kind": "user", "id": card.to_string(), "name": ""},
            }),
        );
        assert_eq!(
            words(&event).lines().collect::<Vec<_>>(),
            ["I wait", "character", "Oto", "status", "complete"]
        );
    }
}
