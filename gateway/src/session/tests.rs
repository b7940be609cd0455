//! What a session makes of lists of messages.

use story::{AuthorKind, Payload};

use super::*;
use crate::app::Unauthorized;
use crate::auth::{Grants, Pattern};

const RATE: Rate = Rate {
    burst: 1_000,
    every: Duration::from_millis(1),
};
const UNIX: u64 = 1_700_000_000;

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: UNIX,
    }
}

fn mira(stories: &[(&str, Role)]) -> Identity {
    let stories = stories.iter().map(|(pattern, role)| {
        let pattern: Pattern = pattern.parse().unwrap();
        (pattern, *role)
    });
    Identity {
        sub: "mira".to_owned(),
        name: "Mira".to_owned(),
        jti: None,
        issued_at: None,
        expires_at: UNIX + 60,
        stories: stories.collect::<Grants>(),
    }
}

fn anonymous() -> Session {
    Session::new(now(), RATE, Duration::from_secs(15))
}

fn known(stories: &[(&str, Role)]) -> Session {
    let mut session = anonymous();
    session.welcome(mira(stories), now());
    session
}

fn says(session: &mut Session, text: &str) -> Vec<Act> {
    session.frame(text, now())
}

/// The one error that is said.
fn code(acts: &[Act]) -> Code {
    match acts {
        [Act::Send(Answer::Err { code, .. })] => *code,
        other => panic!("{other:?} is not one error"),
    }
}

fn reference(text: &str) -> Reference {
    serde_json::from_value(text.into()).unwrap()
}

#[tokio::test]
async fn whoever_is_unknown_may_only_say_who_they_are() {
    let mut session = anonymous();
    for message in [
        r#"{"t":"join","story":"castle"}"#,
        r#"{"t":"leave","story":"castle"}"#,
        r#"{"t":"publish","story":"castle","event":{"mode":"do","text":"I wait"}}"#,
    ] {
        assert_eq!(code(&says(&mut session, message)), Code::Auth);
    }
    let ping = says(&mut session, r#"{"t":"ping","ref":"p"}"#);
    assert_eq!(ping, [Act::Send(Answer::ok(reference("p")))]);
    let auth = says(&mut session, r#"{"t":"auth","token":"x","ref":7}"#);
    assert!(matches!(&auth[..], [Act::Verify { .. }]), "{auth:?}");
    let again = says(&mut session, r#"{"t":"auth","token":"y"}"#);
    assert_eq!(code(&again), Code::TooMany);
    assert!(!format!("{auth:?}").contains("\"x\""), "{auth:?}");
}

#[tokio::test]
async fn nobody_need_wait_for_their_welcome() {
    let auth = r#"{"t":"auth","token":"x"}"#;
    let join = r#"{"t":"join","story":"castle","ref":"j"}"#;
    let publish = r#"{"t":"publish","story":"castle","event":{"mode":"do","text":"I wait"}}"#;
    let mut session = anonymous();
    let acts = [auth, join, publish].map(|message| says(&mut session, message));
    assert_eq!(acts.map(|acts| acts.len()), [1, 0, 0]);
    let mira = mira(&[("castle", Role::Author)]);
    let acts = session.verified(Ok(mira), Reference::default(), now());
    let did = matches!(&acts[2..], [Act::Join { .. }, Act::Publish { .. }]);
    assert!(did, "{acts:?}");
    // So much is kept, and of somebody who is nobody nothing is done.
    let mut session = anonymous();
    let cursor = "c".repeat(MAX_FRAME_BYTES / 2 - 100);
    let large = format!(r#"{{"t":"join","story":"castle","cursor":"{cursor}"}}"#);
    says(&mut session, auth);
    assert_eq!(says(&mut session, &large), []);
    assert_eq!(says(&mut session, &large), []);
    assert_eq!(code(&says(&mut session, &large)), Code::TooMany);
    assert_eq!(code(&says(&mut session, join)), Code::TooMany);
    let acts = session.verified(Err(Unauthorized::Revoked), Reference::default(), now());
    assert!(matches!(&acts[..], [Act::Send(_), Act::Close(Close::Auth)]));
}

#[tokio::test]
async fn messages_of_a_frame_are_answered_in_their_order() {
    let mut session = known(&[("castle", Role::Author)]);
    let frame = "{\"t\":\"join\",\"story\":\"castle\",\"ref\":\"1\"}\n\n{\"t\":\"ping\",\"ref\":\"2\"}\n{\"t\":\"dance\",\"ref\":\"3\"}\n";
    match &says(&mut session, frame)[..] {
        [
            Act::Join {
                number: 0,
                cursor: None,
                ..
            },
            Act::Send(Answer::Ok {
                reference: second, ..
            }),
            Act::Send(Answer::Err {
                reference: third,
                code: Code::BadMessage,
                ..
            }),
        ] => assert_eq!((second, third), (&reference("2"), &reference("3"))),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_json_ends_a_session_and_what_is_no_message_does_not() {
    for frame in ["{", "join castle", "\u{0}"] {
        let acts = says(&mut anonymous(), frame);
        assert_eq!(acts, [Act::Close(Close::BadMessage)], "{frame}");
    }
    for message in [
        r#"{"t":"dance"}"#,
        r#"{"story":"castle"}"#,
        "[]",
        r#"["ping",null]"#,
        "7",
        r#"{"t":"join","story":"Not A Story"}"#,
        r#"{"t":"publish","story":"castle","event":{"mode":"fly"}}"#,
        r#"{"t":"publish","story":"castle","event":{"mode":"do","text":"x","author":"me"}}"#,
    ] {
        let acts = says(&mut known(&[("castle", Role::Owner)]), message);
        assert_eq!(code(&acts), Code::BadMessage, "{message}");
    }
}

#[tokio::test]
async fn a_frame_has_no_more_than_its_messages_and_a_socket_no_more_than_its_rate() {
    let ping = "{\"t\":\"ping\"}\n";
    let most = says(&mut anonymous(), &ping.repeat(MAX_MESSAGES));
    let ok = Act::Send(Answer::ok(Reference::default()));
    assert!(
        most.len() == MAX_MESSAGES && most.iter().all(|act| *act == ok),
        "{most:?}"
    );
    let more = says(&mut anonymous(), &ping.repeat(MAX_MESSAGES + 1));
    assert_eq!(more.last(), Some(&Act::Close(Close::BadMessage)));

    let rate = Rate {
        burst: 2,
        every: Duration::from_secs(1),
    };
    let mut session = Session::new(now(), rate, Duration::from_secs(15));
    for _ in 0..2 {
        assert!(matches!(
            &says(&mut session, ping)[..],
            [Act::Send(Answer::Ok { .. })]
        ));
    }
    match &says(&mut session, ping)[..] {
        [
            Act::Send(Answer::Err {
                code: Code::Rate,
                after_ms: Some(after),
                ..
            }),
            Act::Close(Close::Rate),
        ] => {
            assert!((1..=1_000).contains(after), "{after}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_with_nothing_in_them_count_and_messages_cost_nothing_more() {
    let rate = Rate {
        burst: 2,
        every: Duration::from_secs(4),
    };
    let session = || Session::new(now(), rate, Duration::from_secs(15));
    let closes = |acts: &[Act]| {
        matches!(
            acts,
            [
                Act::Send(Answer::Err {
                    code: Code::Rate,
                    after_ms: Some(1..=1_000),
                    ..
                }),
                Act::Close(Close::Rate)
            ]
        )
    };
    for blank in ["", "\n \n"] {
        let mut session = session();
        for _ in 0..4 {
            assert_eq!(session.control(now()), []);
            assert_eq!(says(&mut session, blank), []);
        }
        assert!(closes(&session.control(now())));
        assert!(closes(&says(&mut session, blank)));
    }
    let mut session = session();
    for _ in 0..6 {
        assert_eq!(session.control(now()), []);
    }
    let pings = says(&mut session, "{\"t\":\"ping\"}\n{\"t\":\"ping\"}");
    assert!(
        matches!(
            &pings[..],
            [Act::Send(Answer::Ok { .. }), Act::Send(Answer::Ok { .. })]
        ),
        "{pings:?}"
    );
}

#[tokio::test]
async fn a_story_is_joined_once_by_who_may_read_it() {
    let mut session = known(&[("castle", Role::Reader)]);
    let join = |story: &str| format!(r#"{{"t":"join","story":"{story}"}}"#);
    assert_eq!(code(&says(&mut session, &join("moor"))), Code::Forbidden);
    assert!(matches!(
        says(&mut session, &join("castle"))[..],
        [Act::Join { number: 0, .. }]
    ));
    assert_eq!(code(&says(&mut session, &join("castle"))), Code::BadMessage);
    assert!(session.is_in(0));
    let left = says(&mut session, r#"{"t":"leave","story":"castle","ref":"l"}"#);
    let leave = Act::Leave {
        number: 0,
        reference: Some(reference("l")),
    };
    assert_eq!(left, [leave]);
    assert!(!session.is_in(0));
    let again = r#"{"t":"join","story":"castle","cursor":"e-0-0000"}"#;
    assert!(matches!(
        says(&mut session, again)[..],
        [Act::Join {
            number: 1,
            cursor: Some(_),
            ..
        }]
    ));
    let gone = session.joined(
        1,
        &"castle".parse().unwrap(),
        Err(Answer::err(Reference::default(), Code::NoStory, "")),
    );
    assert!(matches!(gone, Answer::Err { code, .. } if code == Code::NoStory));
    assert!(!session.is_in(1));
    let odd = r#"{"t":"join","story":"castle","cursor":"nonsense"}"#;
    assert_eq!(code(&says(&mut session, odd)), Code::BadCursor);
    assert_eq!(
        code(&says(&mut session, r#"{"t":"leave","story":"castle"}"#)),
        Code::NotJoined
    );
}

#[tokio::test]
async fn a_join_that_fails_late_ends_none_that_came_after_it() {
    let mut session = known(&[("castle", Role::Reader)]);
    let castle: StoryId = "castle".parse().unwrap();
    let join = r#"{"t":"join","story":"castle"}"#;
    let leave = r#"{"t":"leave","story":"castle"}"#;
    says(&mut session, &[join, leave, join].join("\n"));
    let gone = Answer::err(Reference::default(), Code::Unavailable, "");
    session.joined(0, &castle, Err(gone));
    assert!(session.is_in(1));
}

#[tokio::test]
async fn a_socket_is_in_no_more_stories_than_it_may_be() {
    let mut session = known(&[("*", Role::Reader)]);
    for n in 0..MAX_STORIES {
        let acts = says(&mut session, &format!(r#"{{"t":"join","story":"s{n}"}}"#));
        assert!(matches!(acts[..], [Act::Join { .. }]), "{acts:?}");
    }
    assert_eq!(
        code(&says(&mut session, r#"{"t":"join","story":"more"}"#)),
        Code::TooMany
    );
}

#[tokio::test]
async fn what_a_person_does_is_theirs_and_nobody_can_take_its_id() {
    let say = r#"{"t":"publish","story":"castle","event":{"id":"mine","mode":"do","text":"I wait"},"ref":"r"}"#;
    let mut session = known(&[("castle", Role::Author)]);
    assert_eq!(code(&says(&mut session, say)), Code::NotJoined);
    let join = r#"{"t":"join","story":"castle"}"#;
    says(&mut session, join);
    let published = |session: &mut Session| match says(session, say).pop() {
        Some(Act::Publish { event, .. }) => event,
        other => panic!("{other:?}"),
    };
    let (event, again) = (published(&mut session), published(&mut session));
    assert_eq!(event.author.id, "mira");
    assert_eq!(event.author.kind, AuthorKind::User);
    assert!(matches!(event.payload(), Payload::Action(action) if action.text == "I wait"));
    assert_eq!(event.id, again.id);
    let mut other = known(&[]);
    let identity = Identity {
        sub: "oto".to_owned(),
        ..mira(&[("castle", Role::Author)])
    };
    other.welcome(identity, now());
    says(&mut other, join);
    assert_ne!(event.id, published(&mut other).id);
    let mut reader = known(&[("castle", Role::Reader)]);
    says(&mut reader, join);
    assert_eq!(code(&says(&mut reader, say)), Code::Forbidden);
}

#[tokio::test]
async fn an_action_that_says_nothing_or_does_not_fit_its_mode_is_refused() {
    let mut session = known(&[("castle", Role::Author)]);
    says(&mut session, r#"{"t":"join","story":"castle"}"#);
    for event in [
        r#"{"mode":"do"}"#,
        r#"{"mode":"say","text":" \u202e "}"#,
        r#"{"mode":"story","text":" \u200b\u2060"}"#,
        r#"{"mode":"do","text":"I wait","to":"Oto"}"#,
        r#"{"mode":"choose"}"#,
        r#"{"mode":"undo"}"#,
    ] {
        let publish = format!(r#"{{"t":"publish","story":"castle","event":{event}}}"#);
        assert_eq!(
            code(&says(&mut session, &publish)),
            Code::BadMessage,
            "{event}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_by_its_owner_alone_and_takes_back_what_it_does_not_give() {
    let mut session = known(&[("castle", Role::Reader), ("moor", Role::Reader)]);
    for story in ["castle", "moor"] {
        says(
            &mut session,
            &format!(r#"{{"t":"join","story":"{story}"}}"#),
        );
    }
    let until = session.until();
    let oto = Identity {
        sub: "oto".to_owned(),
        ..mira(&[("*", Role::Owner)])
    };
    let acts = session.verified(Ok(oto), Reference::default(), now());
    assert_eq!((code(&acts), session.until()), (Code::Auth, until));
    let refused = session.verified(Err(Unauthorized::Revoked), Reference::default(), now());
    assert_eq!((code(&refused), session.until()), (Code::Auth, until));

    let longer = Identity {
        expires_at: UNIX + 600,
        ..mira(&[("castle", Role::Reader)])
    };
    let acts = session.verified(Ok(longer), reference("r"), now());
    assert_eq!(acts[0], Act::Send(Answer::ok(reference("r"))));
    assert!(
        matches!(&acts[1], Act::Send(Answer::Welcome { expires_at, .. }) if *expires_at == UNIX + 600)
    );
    let leave = Act::Leave {
        number: 1,
        reference: None,
    };
    assert!(acts.contains(&leave), "{acts:?}");
    assert!(session.is_in(0) && !session.is_in(1));
    assert_eq!(session.until(), until + Duration::from_secs(540));
    assert_eq!(session.expired()[1], Act::Close(Close::Auth));
}

#[tokio::test(start_paused = true)]
async fn whoever_brings_no_good_token_in_time_is_let_go() {
    let mut session = anonymous();
    assert_eq!(session.until(), Instant::now() + AUTH);
    assert_eq!(session.expired()[1], Act::Close(Close::AuthTimeout));
    let acts = session.verified(Err(Unauthorized::Ticket), Reference::default(), now());
    assert_eq!(acts[1], Act::Close(Close::Auth));
}
