//! Events as the contract shows them, and what each says of others.

use super::*;
use proptest::prelude::*;

const ACTION: &str = r#"{"v":1,"id":"01JF","type":"action","story":"castle","author":{"kind":"user","id":"u42","name":"Mira"},"mode":"do","text":"I draw the rusted sword","cause":[],"hop":0,"at":"2026-11-24T01:02:03.456Z"}"#;

#[test]
fn an_action_reads_and_writes_as_the_contract_shows_it() {
    let event = Event::decode(ACTION.as_bytes()).unwrap();
    assert_eq!(event.encode(), ACTION);
    assert_eq!(event.kind(), "action");
}

#[test]
fn a_failure_gives_up_the_responses_to_its_causes_and_no_others() {
    let action = Event::decode(ACTION.as_bytes()).unwrap();
    let failed = |agent: &str| {
        let failed = crate::Failed {
            agent: agent.to_owned(),
            class: "provider".to_owned(),
            tries: 3,
            notice: String::new(),
        };
        let (id, author) = ("f".parse().unwrap(), action.author.clone());
        let story = action.story.clone();
        let mut event = Event::new(id, story, author, Payload::Failed(failed), action.at);
        event.cause = vec!["01JE".parse().unwrap(), action.id.clone()];
        event
    };
    for part in [0, MAX_PARTS - 1] {
        let response = action.response(Agent::Narrator, part);
        assert!(failed("narrator").gives_up(&response));
        assert!(!failed("dialogue").gives_up(&response));
        assert!(!action.gives_up(&response));
    }
    assert!(!failed("narrator").gives_up(&action.id));
}

#[test]
fn a_response_that_is_blocked_or_cannot_be_judged_is_given_up() {
    let action = Event::decode(ACTION.as_bytes()).unwrap();
    let response = action.response(Agent::Narrator, 0);
    let of = |fields: &str| {
        let json = format!(
            r#"{{"v":1,"id":"v","story":"castle","author":{{"kind":"agent","id":"moderator"}},"at":"2026-11-24T01:02:03Z",
            "cause":["{response}","{}"],{fields}}}"#,
            action.id
        );
        Event::decode(json.as_bytes()).unwrap()
    };
    let verdict = |decision: &str| {
        of(&format!(
            r#""type":"verdict","target":"{response}","stage":"output","decision":"{decision}","categories":[],"tier":"rules","reason":"""#
        ))
    };
    assert!(verdict("block").gives_up(&response));
    assert!(!verdict("flag").gives_up(&response));
    assert!(!verdict("block").gives_up(&action.id));
    let failed = |agent: &str| {
        of(&format!(
            r#""type":"failed","agent":"{agent}","class":"crash","tries":3,"notice":"""#
        ))
    };
    assert!(failed("moderator").gives_up(&response));
    assert!(
        failed("narrator").gives_up(&response),
        "it answers the action"
    );
    assert!(!failed("dialogue").gives_up(&response));
}

#[test]
fn what_takes_a_beat_back_gives_up_what_characters_were_to_say_in_it() {
    let action = Event::decode(ACTION.as_bytes()).unwrap();
    let beat = action.response(Agent::Narrator, 0);
    let told = Event::decode(
        format!(r#"{{"v":1,"id":"{beat}","type":"narration","story":"castle","author":{{"kind":"agent","id":"narrator"}},"text":"","choices":[],"speak":[],"status":"complete","at":"2026-11-24T01:02:03Z"}}"#).as_bytes(),
    );
    let told = told.unwrap();
    let retracted = Event::decode(
        format!(r#"{{"v":1,"id":"r","type":"retracted","story":"castle","author":{{"kind":"agent","id":"moderator"}},"target":"{beat}","cause":["{beat}"],"at":"2026-11-24T01:02:03Z"}}"#).as_bytes(),
    );
    let retracted = retracted.unwrap();
    for part in [0, MAX_PARTS - 1] {
        assert!(retracted.gives_up(&told.response(Agent::Dialogue, part)));
        assert!(!retracted.gives_up(&told.response(Agent::Narrator, part)));
        assert!(!retracted.gives_up(&action.response(Agent::Dialogue, part)));
    }
    assert!(!retracted.gives_up(&beat), "it was there");
}

#[test]
fn what_is_not_an_event_says_why() {
    for (json, why) in [
        (ACTION.replace("\"v\":1", "\"v\":2"), "wire version 2"),
        (ACTION.replace("castle", "Castle"), "not a story id"),
        (ACTION.replace("\"mode\":\"do\",", ""), "mode"),
        (ACTION.replace("\"do\"", "\"fly\""), "fly"),
        (ACTION.replace('}', ""), "EOF"),
    ] {
        let error = Event::decode(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert!(Event::decode(b"\xff{}").is_err());
    let crowd = vec!["u1"; MAX_AUDIENCE + 1];
    let crowded = ACTION.replace("\"cause\"", &format!("\"audience\":{crowd:?},\"cause\""));
    let error = Event::decode(crowded.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("audience"), "{error}");
    let odd = ACTION.replace("\"cause\"", r#""audience":["u\u0001"],"cause""#);
    let error = Event::decode(odd.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("control"), "{error}");
}

#[test]
fn the_largest_audience_leaves_half_of_an_event_to_its_answer() {
    let mut event = Event::decode(ACTION.as_bytes()).unwrap();
    event.audience = Some(vec!["\"".repeat(MAX_USER_BYTES); MAX_AUDIENCE]);
    let bytes = event.encode();
    assert!(Event::decode(bytes.as_bytes()).is_ok());
    assert!(bytes.len() < MAX_EVENT_BYTES / 2 + 2_048, "{}", bytes.len());
}

#[test]
fn what_a_later_version_writes_is_carried_as_it_came_and_not_acted_on() {
    for later in [
        ACTION.replace("\"v\":1", "\"v\":2"),
        ACTION.replace("\"do\"", "\"fly\""),
        ACTION.replace("\"do\"", "{\"how\":\"fly\"}"),
        ACTION.replace("action", "narration"),
    ] {
        let event = Event::carry(later.as_bytes()).unwrap();
        assert!(matches!(event.payload(), Payload::Unknown(_)), "{later}");
        assert_eq!(event.extra["text"], "I draw the rusted sword");
        let (back, came): (Value, Value) = (
            serde_json::from_str(&event.encode()).unwrap(),
            serde_json::from_str(&later).unwrap(),
        );
        assert_eq!(back, came);
        assert!(Event::decode(later.as_bytes()).is_err(), "{later}");
    }
    let bot = ACTION.replace("\"user\"", "\"bot\"");
    let event = Event::decode(bot.as_bytes()).unwrap();
    assert_eq!(event.author.kind, AuthorKind::Other("bot".to_owned()));
    assert_eq!(event.encode(), bot);
}

#[test]
fn an_event_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let pad = MAX_EVENT_BYTES - ACTION.len();
    let text = |n: usize| ACTION.replace("rusted", &format!("rusted{}", "x".repeat(n)));
    assert!(Event::decode(text(pad).as_bytes()).is_ok());
    assert!(matches!(
        Event::decode(text(pad + 1).as_bytes()),
        Err(DecodeError::TooLarge(n)) if n == MAX_EVENT_BYTES + 1
    ));
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn unknown_fields_and_types_survive_a_round_trip(
        kind in prop_oneof![Just("action".to_owned()), "[a-z]{3,9}x"],
        extra in prop::collection::btree_map("x_[a-z]{1,8}", json(), 0..5),
    ) {
        let mut wire: Map<String, Value> = serde_json::from_str(ACTION).unwrap();
        wire.insert("type".into(), kind.clone().into());
        wire.extend(extra);
        let event = Event::decode(Value::from(wire.clone()).to_string().as_bytes()).unwrap();
        let back: Map<String, Value> = serde_json::from_str(&event.encode()).unwrap();
        prop_assert_eq!(&back, &wire);
        let again = Event::decode(event.encode().as_bytes()).unwrap();
        prop_assert_eq!(again, event);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::decode(&bytes);
    }
}
