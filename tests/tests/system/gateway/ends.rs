//! What still happens to a socket that is about to end, and what does not.

use std::time::{Duration, UNIX_EPOCH};

use bus::Revoked;
use gateway::auth::Role;
use serde_json::json;
use system_tests::edge::Socket;
use system_tests::{Signal, eventually, free_address};
use tokio::time::{Instant, timeout};

use super::{Edge, join, publish};

/// More than fits into the buffers on the way to who reads nothing.
const LARGE: usize = 60_000;

#[tokio::test]
async fn what_waits_when_a_token_ends_is_not_done() -> anyhow::Result<()> {
    let edge = Edge::start(&["--messages", "1000"]).await?;
    let start = Instant::now();
    let token = edge.brief("mira", Duration::from_secs(4))?;
    let mut mira = Socket::open_as(edge.address(), &token).await?;
    assert_eq!(mira.ask_for(join(None)).await?["t"], "ok");
    edge.stack.signal_redis(Signal::STOP)?;
    for n in 0..60 {
        mira.say(&publish(&format!("{n}"))).await?;
    }
    let ended = mira.end().await;
    let took = start.elapsed();
    edge.stack.signal_redis(Signal::CONT)?;
    let (code, before) = ended?;
    assert_eq!(
        (code, &before[before.len() - 1]["t"]),
        (4401, &json!("bye"))
    );
    assert!(took < Duration::from_secs(7), "{took:?}");
    // Each that was begun waited for Redis for 2 s.
    let seq = edge.stack.bus.story(&edge.story).await?.seq.0;
    assert!(seq <= 3, "{seq} events");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_waits_when_a_token_is_revoked_is_not_done() -> anyhow::Result<()> {
    let edge = Edge::start(&["--messages", "1000"]).await?;
    let mut mira = edge.joined("mira", None).await?;
    let now = UNIX_EPOCH.elapsed()?.as_secs();
    let revoke = async |sub: &str| {
        let revoked = Revoked::User(sub.to_owned());
        Ok(edge.stack.bus.revoke(&revoked, now, now + 3_600).await?)
    };
    // A script that Redis does not know yet is sent twice, and waits once only.
    edge.act("oren", "before").await?;
    revoke("ada").await?;
    // Redis takes no writes, and then the revocation before all but the first of what waits.
    edge.stack
        .redis(&["CLIENT", "PAUSE", "1000", "WRITE"])
        .await?;
    let says = async {
        for n in 0..60 {
            mira.say(&publish(&format!("{n}"))).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(revoke("mira"), says)?;
    let (code, before) = mira.end().await?;
    assert_eq!(
        (code, &before[before.len() - 1]["t"]),
        (4401, &json!("bye"))
    );
    edge.act("oren", "after").await?;
    let seq = edge.stack.bus.story(&edge.story).await?.seq.0;
    // Of 33 that were read, the one that was begun, those that were before the news of it was here, and two of oren's.
    assert!(seq < 34, "{seq} events");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn who_reads_nothing_is_out_when_their_token_ends() -> anyhow::Result<()> {
    let pages = free_address()?.to_string();
    let edge = Edge::start(&["--messages", "10000", "--internal-listen", &pages]).await?;
    let token = edge.brief("slow", Duration::from_secs(9))?;
    let mut slow = Socket::open_as(edge.address(), &token).await?;
    assert_eq!(slow.ask_for(join(None)).await?["t"], "ok");
    let (mut writer, text) = (edge.joined("mira", None).await?, "x".repeat(LARGE));
    // More than all that lies between, and less than the story may have unanswered.
    for _ in 0..400 {
        assert_eq!(writer.ask_for(publish(&text)).await?["t"], "ok");
    }
    eventually("it is out", async || {
        let page = edge.client.get(format!("http://{pages}/metrics"));
        let page = page.send().await?.text().await?;
        assert!(page.contains(r#"closes_total{code="1013"} 0"#), "{page}");
        Ok(page
            .contains(r#"closes_total{code="4401"} 1"#)
            .then_some(()))
    })
    .await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn as_many_are_connected_as_there_is_room_for() -> anyhow::Result<()> {
    let edge = Edge::start(&["--connections", "3"]).await?;
    let mut sockets = Vec::new();
    for sub in ["mira", "oren", "ada"] {
        sockets.push(edge.joined(sub, None).await?);
    }
    let mut fourth = Box::pin(edge.joined("ines", None));
    let waited = timeout(Duration::from_secs(1), &mut fourth).await;
    assert!(waited.is_err(), "there was room for a fourth");
    drop(sockets.pop());
    let mut opened = fourth.as_mut().await?;
    drop(fourth);
    assert_eq!(opened.ask_for(json!({"t": "ping"})).await?["t"], "ok");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_node_that_goes_tells_everybody_first() -> anyhow::Result<()> {
    let edge = Edge::start(&["--per-person", "200"]).await?;
    let token = edge.token("mira", Role::Reader)?;
    let mut sockets = Vec::new();
    for _ in 0..200 {
        let mut socket = Socket::open_as(edge.address(), &token).await?;
        assert_eq!(socket.ask_for(join(None)).await?["t"], "ok");
        sockets.push(socket);
    }
    // Nobody reads before it is gone: what they have got then is all that there will be.
    let start = Instant::now();
    let status = edge.node.end().await?;
    assert!(status.success(), "{status}");
    assert!(start.elapsed() < Duration::from_secs(10));
    for socket in &mut sockets {
        let (code, before) = socket.end().await?;
        let told = before.last().map(|bye| &bye["t"]);
        assert_eq!((code, told), (1012, Some(&json!("bye"))));
    }
    edge.stack.end().await;
    Ok(())
}
