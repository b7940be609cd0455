//! The end of a server, with calls under way and without.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{End, Heard, Mock, PATIENCE, asking, streaming};

#[tokio::test]
async fn shutdown_lets_calls_finish_and_ends_those_that_hang() {
    let mock = Mock::plain().await;
    let hanging = mock.chat(&streaming("go")).header("x-mock-fault", "stall");
    let hanging = hanging.send().await.unwrap();
    let slow = mock.chat(&streaming("go")).header("x-mock-ttft", "300ms");
    let slow = slow.send().await.unwrap();
    let Mock {
        shutdown,
        serving,
        client,
        base,
    } = mock;
    drop(shutdown);
    let heard = Heard::whole(slow).await;
    assert!(heard.is_done());
    tokio::time::timeout(PATIENCE, serving.wait())
        .await
        .unwrap();
    let rest = hanging.bytes().await;
    assert!(rest.is_err(), "the connection is gone");
    assert!(client.get(format!("{base}/healthz")).send().await.is_err());
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_shutdown() {
    let mock = Mock::plain().await;
    assert_eq!(
        Heard::whole(mock.chat(&asking("go")).send().await.unwrap())
            .await
            .end,
        End::Clean
    );
    let Mock {
        shutdown,
        serving,
        client: _client,
        ..
    } = mock;
    let started = Instant::now();
    drop(shutdown);
    tokio::time::timeout(PATIENCE, serving.wait())
        .await
        .unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "an idle connection has no call to finish"
    );
}
