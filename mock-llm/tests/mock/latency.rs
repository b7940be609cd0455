//! The pace of answers, measured from below only: a busy machine may be slower, never faster.

use std::time::Duration;

use mock_llm::{Latency, Options};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{Heard, Mock, asking, streaming};

fn latency(first_token: &str, between_tokens: &str, chunk_tokens: u32) -> Options {
    let latency = Latency {
        first_token: first_token.parse().unwrap(),
        between_tokens: between_tokens.parse().unwrap(),
        chunk_tokens,
    };
    Options {
        latency,
        ..Options::default()
    }
}

fn brief(mut body: Value) -> Value {
    body["max_tokens"] = 20.into();
    body
}

#[tokio::test]
async fn a_stream_takes_its_time_token_by_token() {
    let mock = Mock::start(latency("60ms", "10ms", 1)).await;
    let started = Instant::now();
    let mut response = mock.chat(&brief(streaming("go"))).send().await.unwrap();
    let mut arrivals = Vec::new();
    while let Some(chunk) = response.chunk().await.unwrap() {
        arrivals.push((started.elapsed(), chunk));
    }
    assert!(arrivals[0].0 >= Duration::from_millis(60));
    assert!(arrivals.last().unwrap().0 >= Duration::from_millis(60 + 19 * 10));
    assert!(
        arrivals.len() > 5,
        "tokens come as they are told, not at the end"
    );
}

#[tokio::test]
async fn a_whole_answer_takes_as_long_as_its_stream() {
    let mock = Mock::start(latency("60ms", "10ms", 1)).await;
    let started = Instant::now();
    mock.answer(&brief(asking("go"))).await;
    assert!(started.elapsed() >= Duration::from_millis(60 + 19 * 10));
}

#[tokio::test]
async fn a_frame_holds_several_tokens_when_told_so() {
    let mock = Mock::start(latency("0", "0", 8)).await;
    let response = mock.chat(&brief(streaming("go"))).send().await.unwrap();
    let heard = Heard::whole(response).await;
    const ROLE_FINISH_USAGE: usize = 3;
    assert_eq!(heard.frames().len(), 3 + ROLE_FINISH_USAGE);
}

#[tokio::test]
async fn headers_set_the_pace_of_one_request() {
    let mock = Mock::plain().await;
    let asked = mock
        .chat(&brief(streaming("go")))
        .header("x-mock-ttft", "50ms");
    let started = Instant::now();
    Heard::whole(asked.header("x-mock-itl", "5ms").send().await.unwrap()).await;
    assert!(started.elapsed() >= Duration::from_millis(50 + 19 * 5));
    let wrong = mock
        .chat(&asking("go"))
        .header("x-mock-ttft", "soon")
        .send()
        .await;
    let wrong: Value = wrong.unwrap().json().await.unwrap();
    let message = wrong["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("x-mock-ttft: `soon` is no duration"),
        "{message}"
    );
}

#[tokio::test]
async fn without_latency_a_stream_is_one_chunk() {
    let mock = Mock::plain().await;
    let body = streaming("go").to_string();
    let address = mock.base.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    socket.read_to_string(&mut told).await.unwrap();
    let (_, chunks) = told.split_once("\r\n\r\n").unwrap();
    let (length, rest) = chunks.split_once("\r\n").unwrap();
    let length = usize::from_str_radix(length, 16).unwrap();
    assert_eq!(&rest[length..], "\r\n0\r\n\r\n");
}
