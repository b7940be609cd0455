//! What only some may see reaches nobody else, in whichever way.

use gateway::auth::Role;
use serde_json::{Value, json};
use system_tests::edge::{Socket, Stream};

use super::{Edge, is_of_story, join, says};

#[tokio::test]
async fn a_whisper_never_reaches_others_live_resumed_or_by_page() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let (mut mira, mut oren) = (
        edge.joined("mira", None).await?,
        edge.joined("oren", None).await?,
    );
    let mut stream = edge.stream("oren", None).await?;
    edge.act("mira", "before").await?;
    let before = oren
        .until("the first", |frame| says(frame, "before"))
        .await?;
    let cursor = before["cursor"].as_str().unwrap_or_default().to_owned();
    stream
        .until("the first", |sent| says(&sent.data, "before"))
        .await?;
    let event = json!({"mode": "do", "text": "sesame", "audience": ["mira", "ada"]});
    let publish = json!({"t": "publish", "story": "castle", "event": event});
    mira.ask_for(publish).await?;
    edge.act("mira", "after").await?;
    let seen = mira.until("her own", |frame| says(frame, "sesame")).await?;
    assert_eq!(seen["seq"], 2);

    // Live: nothing between the two.
    let next = oren
        .until("anything", |frame| frame["t"] == "event")
        .await?;
    assert!(says(&next, "after"), "{next}");
    let next = stream.until("anything", is_of_story).await?;
    assert!(says(&next.data, "after"), "{next:?}");
    is_not_resumed(&edge, &cursor).await?;
    // By page; its place is still counted.
    let page: Value = edge.page("oren", "?limit=2").await?.json().await?;
    assert_eq!(page["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(page["next"], 2);
    let rest: Value = edge.page("oren", "?after=2").await?.json().await?;
    assert!(!format!("{page}{rest}").contains("sesame"));
    assert_eq!(rest["events"][0]["seq"], 3);
    // Those it is for have it in each of these ways.
    let hers: Value = edge.page("ada", "").await?.json().await?;
    assert_eq!(hers["events"][1]["event"]["text"], "sesame");
    let mut ada = edge.socket("ada").await?;
    ada.say(&join(Some(&cursor))).await?;
    ada.until("hers", |frame| says(frame, "sesame")).await?;
    edge.stack.end().await;
    Ok(())
}

/// On both transports, from a cursor and without one, here and on a node that never saw it live.
async fn is_not_resumed(edge: &Edge, cursor: &str) -> anyhow::Result<()> {
    let other = edge.another().await?;
    let is_last = |frame: &Value| {
        assert!(!frame.to_string().contains("sesame"), "{frame}");
        says(frame, "after")
    };
    let token = edge.token("oren", Role::Reader)?;
    for cursor in [None, Some(cursor)] {
        for node in [edge.address(), other.address()] {
            let mut socket = Socket::open_as(node, &token).await?;
            socket.say(&join(cursor)).await?;
            socket.until("the last", is_last).await?;
            let mut stream = Stream::open(node, "castle", &token, cursor).await?;
            stream.until("the last", |sent| is_last(&sent.data)).await?;
        }
    }
    Ok(())
}
