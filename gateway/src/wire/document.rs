//! What is said on the wire against docs/asyncapi.yaml: each message fits its schema, and none is missing there.

use std::collections::BTreeSet;
use std::sync::Arc;

use bus::Seen;
use serde_json::{Value, json};
use story::{Action, Author, AuthorKind, Event, LogEntry, Mode, Payload, Retracted, Seq};

use super::*;
use crate::hub::{Item, Notice, Told};

const ASYNC: &str = include_str!("../../../docs/asyncapi.yaml");
const SCHEMAS: &str = include_str!("../../../docs/story.schema.json");

fn document() -> Value {
    let text = ASYNC.replace("./story.schema.json#/$defs/", "#/$defs/");
    let mut document: Value = serde_saphyr::from_str(&text).expect("YAML");
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("JSON");
    document["$defs"] = schemas["$defs"].clone();
    document
}

fn faults(document: &Value, schema: &str, message: &Value) -> Vec<String> {
    let whole = json!({
        "$ref": format!("#/components/schemas/{schema}"),
        "components": document["components"], "$defs": document["$defs"],
    });
    let validator = jsonschema::validator_for(&whole).expect("a schema");
    let errors = validator.iter_errors(message);
    errors.map(|error| error.to_string()).collect()
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("well-formed")
}

fn answers() -> Vec<Value> {
    let reference: Reference = serde_json::from_value(json!("r1")).expect("a reference");
    let answers = [
        Answer::Welcome {
            sub: "u1".into(),
            name: "Mira".into(),
            expires_at: 1,
            ping_ms: 2,
        },
        Answer::ok(Reference::default()),
        Answer::Ok {
            reference: reference.clone(),
            id: Some(id("e1")),
            status: Some("logged"),
            replicated: None,
            replicas: None,
        },
        Answer::Ok {
            reference: reference.clone(),
            id: Some(id("e1")),
            status: Some("logged"),
            replicated: Some("short"),
            replicas: Some(0),
        },
        Answer::err(reference.clone(), Code::Full, "full").later(Duration::from_secs(1)),
        Answer::err(reference, Code::Unavailable, "away").of(Some(id("e1"))),
        Answer::Bye {
            after_ms: 0,
            reason: "over",
        },
    ];
    let json = |answer: &Answer| serde_json::from_str(&answer.json()).expect("JSON");
    answers.iter().map(json).collect()
}

fn items() -> Vec<Value> {
    let re = || id::<EventId>("e2");
    let text = || "Once".to_owned();
    let action = Payload::Action(Action {
        mode: Mode::Do,
        text: text(),
        to: None,
        choice: None,
        target: None,
    });
    let retracted = Payload::Retracted(Retracted {
        target: re(),
        reason: text(),
    });
    let event = |payload| {
        let author = Author {
            kind: AuthorKind::User,
            id: "u1".into(),
            name: String::new(),
        };
        let at = id("2026-11-24T01:02:03Z");
        let event = Event::new(id("e1"), id("castle"), author, payload, at);
        let seq = Seq(1);
        Seen::Event(LogEntry { seq, event })
    };
    let (attempt, i, n, upto) = (1, 0, 2, 2);
    let seen = [
        event(action),
        event(retracted),
        Seen::Delta {
            re: re(),
            attempt,
            i,
            n,
            text: text(),
        },
        Seen::Reset { re: re(), attempt },
        Seen::Snapshot {
            re: re(),
            attempt,
            upto,
            text: text(),
        },
        Seen::Gap,
    ];
    let told = seen.into_iter().map(|seen| Told::Seen(Box::new(seen)));
    let json = |told| {
        let cursor = id("abc-1-0000:e2.1.2");
        let mut item = Item::new(Arc::new(id("castle")), Arc::new(cursor), told);
        item.void = vec![re()];
        serde_json::from_str(&item.socket()).expect("JSON")
    };
    told.chain([Told::Live(vec![re()])]).map(json).collect()
}

fn notices() -> Vec<Value> {
    let castle = id("castle");
    let here = bus::Here {
        people: vec![bus::Person {
            sub: "u1".into(),
            name: "Mira".into(),
            connections: 2,
        }],
        count: 1,
    };
    let notices = [
        Notice::presence(&castle, &here),
        Notice::typing(&castle, "u1", "Mira"),
    ];
    let json = |notice: &Notice| serde_json::from_str(&notice.socket()).expect("JSON");
    notices.iter().map(json).collect()
}

/// What a message is called where two have one type: what a client says of itself, and what it hears of others.
fn name(kind: &str) -> &str {
    match kind {
        "typing" => "writes",
        kind => kind,
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().expect("a list").iter();
    let name = |one: &Value| {
        let place = one["$ref"].as_str().expect("a reference");
        place.rsplit('/').next().expect("a name").to_owned()
    };
    list.map(name).collect()
}

#[test]
fn whatever_the_gateway_says_is_described_and_nothing_is_missing() {
    let document = document();
    let mut said = BTreeSet::new();
    for message in [answers(), items(), notices()].concat() {
        let kind = name(message["t"].as_str().expect("a type"));
        assert_eq!(faults(&document, kind, &message), [""; 0], "{message}");
        // No field that is not described.
        let known = document["components"]["schemas"][kind]["properties"].clone();
        for field in message.as_object().expect("an object").keys() {
            assert!(known[field].is_object(), "{kind}.{field}");
        }
        said.insert(kind.to_owned());
    }
    assert_eq!(names(&document["operations"]["hear"]["messages"]), said);
}

#[test]
fn whatever_the_gateway_takes_is_described_and_nothing_is_missing() {
    let document = document();
    let said = json!({"id": "e1", "mode": "say", "text": "Hi", "to": "Ada", "choice": "c1", "target": "e0", "audience": ["u1"]});
    let mut taken = BTreeSet::new();
    for message in [
        json!({"t": "auth", "token": "x", "ref": 1}),
        json!({"t": "join", "story": "castle", "cursor": "abc-1-0000", "ref": null}),
        json!({"t": "leave", "story": "castle", "ref": "r"}),
        json!({"t": "publish", "story": "castle", "event": said}),
        json!({"t": "typing", "story": "castle"}),
        json!({"t": "ping"}),
    ] {
        let kind = message["t"].as_str().expect("a type");
        assert_eq!(faults(&document, kind, &message), [""; 0], "{message}");
        assert!(serde_json::from_value::<Request>(message.clone()).is_ok());
        let needed = document["components"]["schemas"][kind]["required"].clone();
        for field in needed.as_array().expect("a list") {
            let mut less = message.clone();
            let field = field.as_str().expect("a name");
            less.as_object_mut().expect("an object").remove(field);
            assert!(
                serde_json::from_value::<Request>(less).is_err(),
                "{kind}.{field}"
            );
        }
        taken.insert(kind.to_owned());
    }
    assert_eq!(names(&document["operations"]["say"]["messages"]), taken);
    // The parser names what it knows: none of it is left out above.
    let unknown = serde_json::from_value::<Request>(json!({"t": "?"})).expect_err("no message");
    for kind in &taken {
        let is_known = unknown.to_string().contains(&format!("`{kind}`"));
        assert!(is_known, "{kind}: {unknown}");
    }
    let known = unknown.to_string().matches('`').count() / 2 - 1;
    assert_eq!(known, taken.len());
}

#[test]
fn every_code_of_an_error_and_every_close_code_is_named() {
    let document = document();
    let codes = document["components"]["schemas"]["err"]["properties"]["code"].to_string();
    // As many as there are.
    let all: [Code; Code::Unavailable as usize + 1] = [
        Code::BadMessage,
        Code::Auth,
        Code::Forbidden,
        Code::NotJoined,
        Code::NoStory,
        Code::BadCursor,
        Code::TooLarge,
        Code::TooMany,
        Code::Rate,
        Code::Full,
        Code::Unavailable,
    ];
    for code in all {
        let name = serde_json::to_value(code).expect("JSON");
        assert!(codes.contains(name.as_str().expect("text")), "{name}");
    }
    let words = document["info"]["description"].as_str().expect("text");
    let all: [Close; Close::Slow as usize + 1] = [
        Close::BadMessage,
        Close::Auth,
        Close::Forbidden,
        Close::AuthTimeout,
        Close::Protocol,
        Close::Encoding,
        Close::TooLarge,
        Close::Rate,
        Close::Restart,
        Close::Slow,
    ];
    for close in all {
        assert!(words.contains(&close.code().to_string()), "{close:?}");
    }
}
