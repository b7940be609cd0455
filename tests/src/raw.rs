//! Redis without the bus: what a program of other people, or an accident, could put there.

use std::net::Ipv4Addr;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Sends one command of any bytes; gives the first line of the reply.
pub(crate) async fn command(port: u16, words: &[&[u8]]) -> anyhow::Result<String> {
    let mut message = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        message.extend(format!("${}\r\n", word.len()).into_bytes());
        message.extend_from_slice(word);
        message.extend(b"\r\n");
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.write_all(&message).await?;
    let mut lines = BufReader::new(stream).lines();
    let reply = lines.next_line().await?.context("Redis hung up")?;
    ensure!(!reply.starts_with('-'), "Redis refused: {reply}");
    Ok(reply)
}
