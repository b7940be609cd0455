//! The document agrees with itself, and its schemas with the types.

use story::{
    Action, Author, AuthorKind, Choice, Dialogue, Event, Failed, LlmReport, Mode, Narration,
    Payload, Retracted, Speak, Status, Traceparent, Verdict,
};

use super::*;

fn operations() -> Vec<(String, String, Value)> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths").clone();
    let of = |(path, methods): (String, Value)| {
        let methods = methods.as_object().expect("methods").clone();
        methods
            .into_iter()
            .map(move |(method, operation)| (path.clone(), method, operation))
    };
    paths.into_iter().flat_map(of).collect()
}

#[test]
fn every_operation_says_what_it_does_and_what_it_refuses() {
    let mut names = std::collections::BTreeSet::new();
    for (path, method, operation) in operations() {
        let name = operation["operationId"].as_str().expect("a name");
        assert!(names.insert(name.to_owned()), "{name} is twice");
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(name == "describe" || problems(name).is_some(), "{name}");
        let holes = path.matches('{').count();
        let parameters = operation["parameters"].as_array().cloned();
        let in_path = parameters.into_iter().flatten();
        let in_path = in_path.filter(|parameter| parameter["in"] == "path");
        assert_eq!(in_path.count(), holes, "{path}");
    }
    assert_eq!(names.len(), 11, "{names:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let place = reference.split('"').next().expect("its end");
        assert!(document.pointer(place).is_some(), "{place}");
    }
}

fn sample(payload: Payload) -> Value {
    let author = Author {
        kind: AuthorKind::User,
        id: "u1".into(),
        name: "Mira".into(),
    };
    let id = |text: &str| text.parse().expect("an id");
    let story = "castle".parse().expect("a story");
    let at = "2026-11-24T01:02:03Z".parse().expect("a time");
    let mut event = Event::new(id("e1"), story, author, payload, at);
    event.trace = Some(Traceparent::new(1, 2));
    event.audience = Some(vec!["u1".to_owned()]);
    event.cause = vec![id("e0")];
    serde_json::from_str(&event.encode()).expect("JSON")
}

fn samples() -> Vec<(&'static str, Value)> {
    let id = |text: &str| text.parse().expect("an id");
    let llm = Some(LlmReport {
        cost: Some(0.5),
        ..LlmReport::default()
    });
    let status = Status::Complete;
    let action = Action {
        mode: Mode::Say,
        text: "Hi".into(),
        to: Some("Ada".into()),
        choice: Some("c1".into()),
        target: Some(id("e0")),
    };
    let narration = Narration {
        text: "It rains".into(),
        status,
        llm: llm.clone(),
        choices: vec![Choice {
            id: "c1".into(),
            label: "Go".into(),
        }],
        speak: vec![Speak {
            character: "Ada".into(),
            intent: "greets".into(),
        }],
    };
    let dialogue = Dialogue {
        character: "Ada".into(),
        text: "Hi".into(),
        status,
        llm,
    };
    let verdict = Verdict {
        target: id("e0"),
        stage: story::Stage::Input,
        decision: story::Decision::Block,
        categories: vec!["x".into()],
        tier: "rules".into(),
        reason: "no".into(),
    };
    let retracted = Retracted {
        target: id("e0"),
        reason: "no".into(),
    };
    let failed = Failed {
        agent: "narrator".into(),
        class: "rate".into(),
        tries: 1,
        notice: "later".into(),
    };
    vec![
        ("Action", sample(Payload::Action(action))),
        ("Narration", sample(Payload::Narration(narration))),
        ("Dialogue", sample(Payload::Dialogue(dialogue))),
        ("Verdict", sample(Payload::Verdict(verdict))),
        ("Retracted", sample(Payload::Retracted(retracted))),
        ("Failed", sample(Payload::Failed(failed))),
    ]
}

/// Both ways: no field of the types is missing in the schema, and none is there that they do not have.
#[test]
fn the_schema_of_an_event_is_what_the_types_write() {
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("JSON");
    let whole = json!({"$ref": "#/$defs/Event", "$defs": schemas["$defs"]});
    let validator = jsonschema::validator_for(&whole).expect("a schema");
    let names = |value: &Value| -> std::collections::BTreeSet<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    for (name, event) in samples() {
        let errors: Vec<_> = validator
            .iter_errors(&event)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
        let mut described = names(&schemas["$defs"]["Event"]["properties"]);
        described.extend(names(&schemas["$defs"][name]["properties"]));
        assert_eq!(names(&event), described, "{name}");
        if !event["llm"].is_null() {
            let report = names(&schemas["$defs"]["LlmReport"]["properties"]);
            assert_eq!(names(&event["llm"]), report);
        }
        // Without what it must have it is none.
        let needed = schemas["$defs"][name]["required"][0]
            .as_str()
            .expect("a field");
        let mut less = event.clone();
        less.as_object_mut().expect("an object").remove(needed);
        assert!(!validator.is_valid(&less), "{name} without {needed}");
    }
}
