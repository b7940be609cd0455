//! What is refused before its body was read: its client sees the answer, whatever it still sends.

use anyhow::{Context, ensure};
use gateway::auth::Role;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Edge;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);
/// An event may have so much.
const LARGE: usize = 60 * 1024;
/// More than lies between.
const TOO_LARGE: usize = 10 * 1024 * 1024;

fn head(bytes: usize, more: &str) -> String {
    head_of("no.good.token", bytes, more)
}

fn head_of(token: &str, bytes: usize, more: &str) -> String {
    format!(
        "POST /v1/stories/castle/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}content-length: {bytes}\r\n\r\n"
    )
}

/// The next answer on a connection.
async fn answer(stream: &mut TcpStream) -> anyhow::Result<(String, Value)> {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.context("a length")?.parse()?];
        stream.read_exact(&mut body).await?;
        anyhow::Ok((head, serde_json::from_slice(&body).unwrap_or_default()))
    };
    timeout(DEADLINE, read).await.context("no answer")?
}

#[tokio::test]
async fn who_is_not_let_in_sees_why_whatever_they_still_send() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    for bytes in [LARGE, TOO_LARGE] {
        let mut stream = TcpStream::connect(edge.address()).await?;
        stream.write_all(head(bytes, "").as_bytes()).await?;
        stream
            .write_all(&vec![b' '; bytes])
            .await
            .context("it is reset")?;
        let (head, told) = answer(&mut stream).await?;
        ensure!(
            head.starts_with("http/1.1 401 ") && told["code"] == "auth",
            "{head}{told}"
        );
        // The connection is as good as after any other answer.
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await?;
        let (head, _) = answer(&mut stream).await.context("it was closed")?;
        ensure!(head.starts_with("http/1.1 200 "), "{head}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn who_asks_before_they_send_need_send_nothing() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut stream = TcpStream::connect(edge.address()).await?;
    let asks = head(TOO_LARGE, "expect: 100-continue\r\n");
    stream.write_all(asks.as_bytes()).await?;
    let (head, told) = answer(&mut stream).await?;
    ensure!(
        head.starts_with("http/1.1 401 ") && told["code"] == "auth",
        "{head}{told}"
    );
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_said_to_be_too_large_is_refused_without_it() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let token = edge.token("mira", Role::Author)?;
    let mut stream = TcpStream::connect(edge.address()).await?;
    let head = head_of(&token, usize::MAX / 2, "");
    stream.write_all(head.as_bytes()).await?;
    let (head, told) = answer(&mut stream).await?;
    ensure!(
        head.starts_with("http/1.1 413 ") && told["code"] == "too_large",
        "{head}{told}"
    );
    edge.stack.end().await;
    Ok(())
}
