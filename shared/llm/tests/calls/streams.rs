//! The life of a streamed call: its pieces, its restarts, its end by being dropped.

use std::sync::{Arc, Mutex};

use futures::FutureExt;
use llm::{
    Class, Client, Completion, Ended, Finish, Observer, Piece, Schema, Unreadable, Usage, read,
};
use serde_json::{Value, json};

use crate::provider::{Answer, Provider};
use crate::{DONE, HI, STOP, USAGE, YOU, client, request, settings, soon};

fn whole() -> Answer {
    Answer::events(&[HI, YOU, STOP, USAGE, DONE]).ended()
}

/// All pieces but the end, texts as they came and restarts as `[class]`, and the completion.
async fn pieces(client: &Client) -> (Vec<String>, Completion) {
    let mut call = client.stream(&request());
    let mut told = Vec::new();
    loop {
        match call.next().await.unwrap().unwrap() {
            Piece::Text(text) => told.push(text),
            Piece::Restart { class } => told.push(format!("[{class}]")),
            Piece::End(completion) => {
                assert_eq!(call.next().await.unwrap(), None);
                return (told, completion);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_comes_in_pieces_and_ends_once() {
    let provider = Provider::start(|_| whole()).await;
    let (told, completion) = pieces(&client(&provider.url)).await;
    assert_eq!(told, ["Hi ", "you"]);
    assert_eq!((completion.finish, completion.tries), (Finish::Stop, 1));
    assert_eq!(completion.model, "m-1");
    assert_eq!(
        completion.usage,
        Usage {
            prompt: 7,
            completion: 2,
            known: true,
            ..Usage::default()
        }
    );
    assert!(completion.first_token <= completion.elapsed);
}

#[tokio::test]
async fn the_request_carries_body_labels_and_key() {
    let provider = Provider::start(|_| whole()).await;
    let settings = llm::Settings {
        api_key: Some("sk-1".into()),
        headers: vec![("x-title".into(), "Castle".into())],
        ..settings(&provider.url)
    };
    Client::new(settings)
        .unwrap()
        .answer(&request())
        .await
        .unwrap();
    let sent = &provider.requests().await[0];
    for part in [
        "POST /v1/chat/completions HTTP/1.1\r\n",
        "\r\naccept: text/event-stream\r\n",
        "\r\nauthorization: Bearer sk-1\r\n",
        "\r\ncontent-type: application/json\r\n",
        "\r\nx-title: Castle\r\n",
        "\r\nx-storyfleet-agent: narrator\r\n",
        "\r\nx-storyfleet-event: e1\r\n",
        concat!(
            "\r\nuser-agent: storyfleet/",
            env!("CARGO_PKG_VERSION"),
            "\r\n"
        ),
    ] {
        assert!(sent.contains(part), "{part:?} is not in {sent}");
    }
    assert!(sent.ends_with(request().body().get()));
}

#[tokio::test]
async fn calls_one_after_another_share_a_connection() {
    let provider = Provider::start(|_| whole()).await;
    let client = client(&provider.url);
    for _ in 0..20 {
        client.answer(&request()).await.unwrap();
    }
    assert_eq!(provider.connections(), 1);
}

#[tokio::test]
async fn a_retry_after_text_takes_the_text_back() {
    let provider = Provider::start(|n| match n {
        0 => Answer::events(&[HI]).cut(),
        _ => whole(),
    });
    let provider = provider.await;
    let (told, completion) = pieces(&client(&provider.url)).await;
    assert_eq!(told, ["Hi ", "[truncated]", "Hi ", "you"]);
    assert_eq!((completion.tries, provider.requests().await.len()), (2, 2));
}

/// Class, tokens in and out, and whether the call ended with it, of each try.
type Tries = Vec<(Option<Class>, (u32, u32), bool)>;

/// Of a call with three counted tries.
async fn observed(answer: fn(usize) -> Answer) -> Tries {
    let provider = Provider::start(answer).await;
    let tries = Arc::new(Mutex::new(Tries::new()));
    let seen = Arc::clone(&tries);
    let observer = Observer::new(move |ended: Ended| {
        let tokens = (ended.usage.prompt, ended.usage.completion);
        let last = ended.call.is_some();
        seen.lock().unwrap().push((ended.failed, tokens, last));
    });
    let settings = llm::Settings {
        max_tries: 3,
        observer,
        ..settings(&provider.url)
    };
    let client = Client::new(settings).unwrap();
    let _answer_or_error = client.answer(&request()).await;
    let tries = tries.lock().unwrap();
    tries.clone()
}

#[tokio::test]
async fn every_try_is_counted_with_its_class_and_what_it_cost() {
    let tries = observed(|n| match n {
        0 => Answer::plain("500 Oops", "", ""),
        1 => Answer::events(&[HI, USAGE]).hangs(),
        _ => whole(),
    });
    let wanted = [
        (Some(Class::Provider), (0, 0), false),
        (Some(Class::Stall), (7, 2), false),
        (None, (7, 2), true),
    ];
    assert_eq!(tries.await, wanted);

    let tries = observed(|n| match n {
        0 => Answer::plain("429 Slow", "retry-after-ms: 1\r\n", ""),
        _ => Answer::plain("401 Who", "", ""),
    });
    let wanted = [
        (Some(Class::Rate), (0, 0), false),
        (Some(Class::Auth), (0, 0), true),
    ];
    assert_eq!(tries.await, wanted);
}

#[tokio::test]
async fn a_retry_before_text_is_not_told() {
    let provider = Provider::start(|n| match n {
        0 => Answer::plain("500 Oops", "", ""),
        _ => whole(),
    });
    assert_eq!(pieces(&client(&provider.await.url)).await.0, ["Hi ", "you"]);
}

#[tokio::test]
async fn a_collected_answer_holds_the_last_try_alone() {
    let provider = Provider::start(|n| match n {
        0 => Answer::events(&[HI, YOU]).hangs(),
        _ => whole(),
    });
    let (text, completion) = client(&provider.await.url)
        .answer(&request())
        .await
        .unwrap();
    assert_eq!((text.as_str(), completion.tries), ("Hi you", 2));
}

#[tokio::test]
async fn dropping_a_call_hangs_up_before_and_after_the_first_token() {
    for answer in [
        |_| Answer::nothing().hangs(),
        |_| Answer::events(&[HI]).hangs(),
    ] {
        let provider = Provider::start(answer).await;
        let client = Client::new(llm::Settings {
            deadlines: llm::Deadlines::default(),
            ..settings(&provider.url)
        })
        .unwrap();
        let mut call = client.stream(&request());
        while provider.requests().await.is_empty() {
            assert!(call.next().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(call);
        soon(provider.hung_up()).await;
    }
}

#[tokio::test]
async fn dropping_a_next_sends_nothing_twice_and_loses_no_text() {
    let provider = Provider::start(|_| whole()).await;
    let client = client(&provider.url);
    let mut call = client.stream(&request());
    let mut told = String::new();
    let ended = async {
        loop {
            match call.next().now_or_never() {
                None => tokio::task::yield_now().await,
                Some(piece) => match piece.unwrap().unwrap() {
                    Piece::Text(text) => told.push_str(&text),
                    Piece::Restart { class } => panic!("restart after {class}"),
                    Piece::End(completion) => return completion,
                },
            }
        }
    };
    let completion = soon(ended).await;
    assert_eq!((told.as_str(), completion.tries), ("Hi you", 1));
    assert_eq!(provider.requests().await.len(), 1);
}

#[tokio::test]
async fn a_schema_is_sent_and_reading_tells_whether_its_answer_keeps_it() {
    let json = r#"{"choices":[{"delta":{"content":"{\"a\":1}"}}]}"#;
    let cut = r#"{"choices":[{"delta":{"content":"{\"a\":"},"finish_reason":"length"}]}"#;
    let provider = Provider::start(move |n| match n {
        0 => Answer::events(&[json, STOP, DONE]).ended(),
        1 => Answer::events(&[cut, DONE]).ended(),
        _ => whole(),
    });
    let provider = provider.await;
    let schema = Some(Schema::new("beat", r#"{"type":"object"}"#).unwrap());
    let request = llm::Request {
        schema,
        ..request()
    };
    let client = client(&provider.url);

    let answer = async || client.answer(&request).await.unwrap();
    let (text, _) = answer().await;
    assert_eq!(read::<Value>(&text).unwrap(), json!({"a": 1}));
    let (text, completion) = answer().await;
    assert!(matches!(read::<Value>(&text), Err(Unreadable::Open)));
    assert_eq!((completion.finish, completion.tries), (Finish::Length, 1));
    let (text, completion) = answer().await;
    assert!(matches!(read::<Value>(&text), Err(Unreadable::Missing)));
    assert_eq!(completion.tries, 1);
    assert!(provider.requests().await[0].contains(r#""response_format":{"type":"json_schema""#));
}
