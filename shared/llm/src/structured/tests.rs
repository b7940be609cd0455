//! Answers as models write them, good and bad, and the schemas that they are asked for with.

use proptest::prelude::*;
use serde::Serialize;

use super::*;

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize, JsonSchema)]
struct Beat {
    /// What the code says of it is nobody's business.
    winner: Winner,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    all: Vec<Part>,
}

#[derive(Debug, PartialEq, Clone, Copy, Serialize, Deserialize, JsonSchema)]
enum Winner {
    A,
    #[serde(rename = "tie")]
    Tie,
}

#[derive(Debug, PartialEq, Clone, Serialize, Deserialize, JsonSchema)]
struct Part {
    name: String,
    #[serde(default)]
    intent: String,
}

fn beat(reason: &str) -> Beat {
    Beat {
        winner: Winner::Tie,
        reason: reason.to_owned(),
        all: Vec::new(),
    }
}

#[test]
fn an_object_is_found_in_whatever_is_around_it() {
    for text in [
        r#"{"winner":"tie","reason":"r"}"#,
        "```json\n{\"winner\":\"tie\",\"reason\":\"r\"}\n```",
        "Here is {it}: {\"winner\":\"tie\",\"reason\":\"r\"} as {you} asked {",
        "{\"thoughts\":[{\"winner\":\"A\"}]} {\"winner\":\"tie\",\"reason\":\"r\"}",
        "\u{feff}<think>é</think>\r\n{ \"winner\" : \"tie\", \"more\": {\"a\":[1]}, \"reason\":\"r\" }}",
    ] {
        assert_eq!(read::<Beat>(text).unwrap(), beat("r"), "{text}");
    }
    let quoted = r#"{"winner":"tie","reason":"\\\"}{ \u007d"}"#;
    assert_eq!(read::<Beat>(quoted).unwrap(), beat("\\\"}{ }"));
}

#[test]
fn what_is_wrong_is_said_without_the_answers_words() {
    for (text, says) in [
        ("", "it holds no JSON object"),
        ("The dragon wakes.", "it holds no JSON object"),
        ("[\"dragon\"]", "it holds no JSON object"),
        (
            "<html><body>dragon</body></html>",
            "it holds no JSON object",
        ),
        ("{", "its JSON object has no end"),
        ("}{dragon", "its JSON object has no end"),
        (
            r#"{"winner":"A","reason":"dragon"#,
            "its JSON object has no end",
        ),
        (r#"{"answer":{"winner":"A"}"#, "its JSON object has no end"),
        (
            "{dragon}",
            "its JSON cannot be used (Syntax error at line 1 column 2)",
        ),
        (
            r#"{"winner":"dragon"}"#,
            "its JSON cannot be used (Data error at line 1 column 18)",
        ),
        (
            r#"{"answer":{"winner":"A"}}"#,
            "its JSON cannot be used (Data error at line 1 column 25)",
        ),
        (
            r#"{"winner":"A","winner":"A"}"#,
            "its JSON cannot be used (Data error at line 1 column 22)",
        ),
        (
            r#"{"winner":"A","all":["dragon"]}"#,
            "its JSON cannot be used (Data error at line 1 column 29)",
        ),
        (
            "{\"winner\":\"A\",\"reason\":\"two\nlines\"}",
            "its JSON cannot be used (Syntax error at line 2 column 0)",
        ),
    ] {
        let wrong = read::<Beat>(text).unwrap_err();
        assert_eq!(wrong.to_string(), says, "{text}");
    }
    let wrong = read::<Beat>(r#"{"winner":"dragon"}"#).unwrap_err();
    assert!(
        wrong
            .explained()
            .contains("unknown variant `dragon`, expected `A` or `tie`")
    );
}

#[test]
fn a_bound_of_the_type_is_one_of_the_answer() {
    assert_eq!(
        String::from(read::<Wrapped>(r#"{"it":"éé"}"#).unwrap().it),
        "éé"
    );
    let wrong = read::<Wrapped>(r#"{"it":"ééé"}"#).unwrap_err();
    assert!(
        wrong
            .explained()
            .starts_with("a text is longer than 2 characters")
    );
}

#[derive(Debug, Deserialize)]
struct Wrapped {
    it: Short<2>,
}

#[test]
fn a_large_or_deep_answer_costs_no_more_than_its_length() {
    for text in [
        "{".repeat(10 << 20),
        "{}".repeat(5 << 20),
        "[".repeat(10 << 20),
    ] {
        assert!(read::<Beat>(&text).is_err());
    }
    let deep = |of: usize| ["[".repeat(of), "]".repeat(of)].concat();
    let asked_for = format!("{{\"winner\":\"A\",\"all\":{}}}", deep(200_000));
    assert!(matches!(
        read::<Beat>(&asked_for),
        Err(Unreadable::Wrong(_))
    ));
    let beside = format!("{{\"winner\":\"tie\",\"deep\":{}}}", deep(200_000));
    assert_eq!(read::<Beat>(&beside).unwrap(), beat(""));
}

#[test]
fn the_schema_of_a_type_is_strict_and_keeps_its_order() {
    let schema = Schema::of::<Beat>("beat");
    insta::assert_snapshot!(schema.text(), @r#"{"additionalProperties":false,"properties":{"winner":{"enum":["A","tie"],"type":"string"},"reason":{"type":"string"},"all":{"items":{"additionalProperties":false,"properties":{"name":{"type":"string"},"intent":{"type":"string"}},"required":["name","intent"],"type":"object"},"type":"array"}},"required":["winner","reason","all"],"type":"object"}"#);
    let narrowed = Schema::narrowed::<Beat>("beat", |schema| {
        schema["properties"]["all"]["items"]["properties"]["name"] =
            serde_json::json!({"enum": ["Oto"]});
        schema["properties"]
            .as_object_mut()
            .unwrap()
            .remove("reason");
    });
    insta::assert_snapshot!(narrowed.text(), @r#"{"additionalProperties":false,"properties":{"winner":{"enum":["A","tie"],"type":"string"},"all":{"items":{"additionalProperties":false,"properties":{"name":{"enum":["Oto"]},"intent":{"type":"string"}},"required":["name","intent"],"type":"object"},"type":"array"}},"required":["winner","all"],"type":"object"}"#);
}

prop_compose! {
    fn any_beat()(reason in "[\\PC{}\"\\\\]{0,24}", names in prop::collection::vec("[{}\"\\\\a\n]{0,6}", 0..3)) -> Beat {
        let all = names.into_iter().map(|name| Part { intent: name.clone(), name });
        Beat { all: all.collect(), ..beat(&reason) }
    }
}

proptest! {
    /// Whatever is lost of an answer at its end, nothing else is read in its place: no inner object, nothing of a string.
    #[test]
    fn a_cut_answer_is_never_taken_for_another(beat in any_beat(), before in "[^{]{0,12}", after in "\\PC{0,12}") {
        let json = serde_json::to_string(&beat).unwrap();
        prop_assert_eq!(read::<Beat>(&format!("{before}{json}{after}")).unwrap(), beat);
        for cut in (0..json.len()).filter(|cut| json.is_char_boundary(*cut)) {
            prop_assert!(read::<Beat>(&format!("{before}{}", &json[..cut])).is_err(), "{cut}");
        }
    }

    #[test]
    fn no_text_is_too_odd(text in "[{}\\[\\]\":\\\\a\\PC]{0,64}") {
        let _any = read::<Beat>(&text);
    }
}
