//! A thousand calls at once. Alone in its process, and the server in another: each side of a connection costs a file,
//! and 1,024 is the usual limit of them.

use std::process::Stdio;
use std::time::Duration;

use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

const CALLS: usize = 1000;

/// Asks for a stream that hangs after its first token, and hears that token.
async fn ask(address: &str, n: usize) -> std::io::Result<TcpStream> {
    let body = r#"{"model":"mock","stream":true,"messages":[{"role":"user","content":"go"}]}"#;
    let length = body.len();
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\nx-storyfleet-event: {n}\r\n\
         x-mock-fault: stall(1)\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut heard = Vec::new();
    while !heard.windows(6).any(|window| window == b"data: ") {
        assert_ne!(socket.read_buf(&mut heard).await?, 0, "the server hung up");
    }
    Ok(socket)
}

async fn calls(address: &str) -> std::io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = "GET /admin/calls?limit=0 HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).await?;
    let mut report = String::new();
    socket.read_to_string(&mut report).await?;
    Ok(report)
}

#[tokio::test]
async fn a_thousand_calls_are_held_at_once_and_let_go() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-llm"));
    let mut server = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap();
    let address = ready
        .trim_start_matches("ready http://")
        .trim_end_matches("/v1");

    let sockets = join_all((0..CALLS).map(|n| ask(address, n))).await;
    assert!(sockets.iter().all(Result::is_ok), "{sockets:?}");
    let report = calls(address).await.unwrap();
    assert!(report.contains(r#""in_flight":1000"#), "{report}");

    drop(sockets);
    let gone = async {
        while !calls(address).await.unwrap().contains(r#""in_flight":0"#) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(30), gone).await;
    gone.expect("calls whose callers hung up are over");
}
