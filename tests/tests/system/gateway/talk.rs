//! People in a story over WebSocket.

use gateway::auth::Role;
use serde_json::{Value, json};
use system_tests::edge::{Heard, Person, Socket};

use super::{Edge, join, publish, says};

#[tokio::test]
async fn nobody_need_wait_for_their_welcome() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let auth = json!({"t": "auth", "token": edge.token("mira", Role::Author)?, "ref": 1});
    let mut publish = publish("I light the lamp.");
    publish["ref"] = json!(3);
    let lines = [
        auth,
        json!({"t": "join", "story": "castle", "ref": 2}),
        publish,
    ];
    let mut socket = Socket::open(edge.address(), &[]).await?;
    socket
        .say_text(&lines.map(|line| line.to_string()).join("\n"))
        .await?;
    for reference in 1..=3 {
        let answer = socket
            .until("an answer", |frame| frame.get("ref").is_some())
            .await?;
        assert_eq!(
            (&answer["ref"], &answer["t"]),
            (&json!(reference), &json!("ok"))
        );
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn two_people_see_what_each_other_does() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let (mut mira, mut oren) = (
        edge.joined("mira", None).await?,
        edge.joined("oren", None).await?,
    );
    let mut stream = edge.stream("ada", None).await?;
    let answer = mira.ask_for(publish("I open the door")).await?;
    assert_eq!(
        (&answer["t"], &answer["status"]),
        (&json!("ok"), &json!("logged"))
    );
    for reader in [&mut mira, &mut oren] {
        let seen = reader
            .until("the event", |frame| says(frame, "I open the door"))
            .await?;
        assert_eq!(seen["seq"], 1);
        assert_eq!(seen["event"]["id"], answer["id"]);
        assert_eq!(seen["event"]["author"]["id"], "mira");
        assert_eq!(seen["story"], "castle");
    }
    oren.ask_for(publish("I wait outside")).await?;
    mira.until("the other's", |frame| says(frame, "I wait outside"))
        .await?;
    let sent = stream
        .until("both", |sent| says(&sent.data, "I wait outside"))
        .await?;
    assert_eq!(
        (&*sent.event, sent.data["seq"].as_u64()),
        ("event", Some(2))
    );
    assert_eq!(sent.data["cursor"], json!(sent.id));
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn who_left_is_given_nothing_more_and_may_come_again() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut mira = edge.joined("mira", None).await?;
    let left = json!({"t": "leave", "story": "castle"});
    assert_eq!(mira.ask_for(left.clone()).await?["t"], "ok");
    edge.act("oren", "I whisper").await?;
    // What is published for a story that one is not in says so, and nothing came before it.
    mira.say(&publish("Hello?")).await?;
    let is_answer = |frame: &Value| {
        assert!(!says(frame, "I whisper"), "{frame}");
        frame["t"] == "err"
    };
    let answer = mira.until("the answer", is_answer).await?;
    assert_eq!(answer["code"], "not_joined", "{answer}");
    assert_eq!(mira.ask_for(left).await?["code"], "not_joined");
    mira.say(&join(None)).await?;
    mira.until("what was missed", |frame| says(frame, "I whisper"))
        .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn several_stories_share_a_socket_and_several_messages_a_frame() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    edge.stack
        .story("tower", story::Policies::default())
        .await?;
    let token = edge
        .issuer
        .token(&Person::new("mira", &[("*", Role::Author)]))?;
    let mut socket = Socket::open_as(edge.address(), &token).await?;
    let lines = [
        json!({"t": "join", "story": "castle", "ref": 1}),
        json!({"t": "join", "story": "tower", "ref": "two"}),
        json!({"t": "publish", "story": "tower", "ref": 3, "event": {"mode": "do", "text": "I climb"}}),
        json!({"t": "ping", "ref": 4}),
    ];
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    socket.say_text(&lines.join("\n")).await?;
    let mut marks = Vec::new();
    let (mut tower, mut is_answered) = (None, false);
    while tower.is_none() || !is_answered {
        let Heard::Message(frame) = socket.hear().await? else {
            anyhow::bail!("closed after {marks:?}");
        };
        match frame["t"].as_str() {
            Some("ok") => marks.push(frame["ref"].clone()),
            Some("event") => tower = Some(frame["story"].clone()),
            Some("presence" | "live") => {}
            _ => assert_eq!(frame["t"], "welcome"),
        }
        is_answered = marks.len() == 4;
    }
    assert_eq!(marks, [json!(1), json!("two"), json!(3), json!(4)]);
    assert_eq!(tower, Some(json!("tower")));
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_is_answered_and_the_socket_stays() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let token = edge.issuer.token(&Person::new(
        "mira",
        &[("castle", Role::Reader), ("nowhere", Role::Reader)],
    ))?;
    let mut mira = Socket::open_as(edge.address(), &token).await?;
    let event = json!({"mode": "do", "text": "Hi"});
    for (message, code, words) in [
        (
            json!({"t": "join", "story": "tower"}),
            "forbidden",
            "does not let you read",
        ),
        (
            json!({"t": "join", "story": "nowhere"}),
            "no_story",
            "nowhere",
        ),
        (
            json!({"t": "join", "story": "Not A Story"}),
            "bad_message",
            "",
        ),
        (
            json!({"t": "publish", "story": "castle", "event": event}),
            "not_joined",
            "join it first",
        ),
        (json!({"t": "dance"}), "bad_message", "unknown variant"),
        (json!({"t": "join"}), "bad_message", "story"),
        (json!({"story": "castle"}), "bad_message", "`t`"),
        (
            json!({"t": "leave", "story": "castle"}),
            "not_joined",
            "join it first",
        ),
    ] {
        let answer = mira.ask_for(message.clone()).await?;
        assert_eq!(
            (&answer["t"], &answer["code"]),
            (&json!("err"), &json!(code)),
            "{message}"
        );
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(told.contains(words), "{message}: {told}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_reader_joins_once_and_writes_nothing_and_a_ref_has_its_bound() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let token = edge
        .issuer
        .token(&Person::new("mira", &[("castle", Role::Reader)]))?;
    let mut mira = Socket::open_as(edge.address(), &token).await?;
    let (long, fits) = ("x".repeat(65), "x".repeat(64));
    assert_eq!(
        mira.ask_for(json!({"t": "ping", "ref": fits})).await?["t"],
        "ok"
    );
    mira.say(&json!({"t": "ping", "ref": long})).await?;
    let told = mira
        .until("a ref too long", |frame| frame["t"] == "err")
        .await?;
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|words| words.contains("64 bytes")),
        "{told}"
    );
    assert_eq!(mira.ask_for(join(None)).await?["t"], "ok");
    assert_eq!(mira.ask_for(join(None)).await?["code"], "bad_message");
    assert_eq!(
        mira.ask_for(publish("I may only read")).await?["code"],
        "forbidden"
    );
    assert_eq!(mira.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_action_that_does_not_fit_its_mode_is_refused() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut mira = edge.joined("mira", None).await?;
    for event in [
        json!({"mode": "do", "text": " \u{200b} "}),
        json!({"mode": "do", "text": "Hi", "to": "Sibyl"}),
        json!({"mode": "choose"}),
        json!({"mode": "undo"}),
        json!({"mode": "fly", "text": "Up"}),
        json!({"mode": "do", "text": "Hi", "author": {"id": "oren"}}),
        json!({"mode": "do", "text": "Hi", "id": ""}),
        json!({"text": "Hi"}),
        json!("Hi"),
    ] {
        let message = json!({"t": "publish", "story": "castle", "event": event});
        assert_eq!(
            mira.ask_for(message).await?["code"],
            "bad_message",
            "{event}"
        );
        let response = edge
            .post("mira", "/v1/stories/castle/events", &event)
            .await?;
        assert!(
            matches!(response.status().as_u16(), 400 | 422),
            "{event}: {response:?}"
        );
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
    }
    let large = "x".repeat(story::MAX_EVENT_BYTES - 200);
    let answer = mira.ask_for(publish(&large)).await?;
    assert_eq!(
        (&answer["t"], &answer["code"]),
        (&json!("err"), &json!("too_large"))
    );
    assert_eq!(edge.stack.bus.story(&edge.story).await?.seq.0, 0);
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn the_same_action_sent_twice_counts_once_and_nobody_takes_anothers_id() -> anyhow::Result<()>
{
    let edge = Edge::start(&[]).await?;
    let mut mira = edge.joined("mira", None).await?;
    let action = json!({"id": "mine", "mode": "do", "text": "I knock"});
    let publish = json!({"t": "publish", "story": "castle", "event": action});
    let first = mira.ask_for(publish.clone()).await?;
    let second = mira.ask_for(publish.clone()).await?;
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!("logged"), &json!("duplicate"))
    );
    assert_eq!(first["id"], second["id"]);
    // Over HTTP too, under a key as under an id.
    let bare = json!({"mode": "do", "text": "I knock"});
    let request = edge.client.post(edge.node.url("/v1/stories/castle/events"));
    let request = request.bearer_auth(edge.token("mira", Role::Author)?);
    let response = request
        .header("idempotency-key", "mine")
        .json(&bare)
        .send()
        .await?;
    assert_eq!(response.status(), 202);
    let third: Value = response.json().await?;
    assert_eq!(
        (&third["status"], &third["id"]),
        (&json!("duplicate"), &first["id"])
    );
    // The same id is another's own.
    let mut oren = edge.joined("oren", None).await?;
    let other = oren.ask_for(publish).await?;
    assert_eq!(other["status"], "logged");
    assert_ne!(other["id"], first["id"]);
    assert_eq!(edge.stack.bus.story(&edge.story).await?.seq.0, 2);
    edge.stack.end().await;
    Ok(())
}
