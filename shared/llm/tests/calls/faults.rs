//! One test per row of the table of classes: the fault, the requests that it costs, the time it takes.

use std::time::Duration;

use llm::{Class, Client, Deadlines, Error, Finish, Settings};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::provider::{Answer, Provider};
use crate::{DONE, HI, STOP, client, request, settings};

/// The error of a call to a provider that always answers so, and the requests that it cost.
async fn fails(settings: impl Fn(&str) -> Settings, answer: fn() -> Answer) -> (Error, usize) {
    let provider = Provider::start(move |_| answer()).await;
    let client = Client::new(settings(&provider.url)).unwrap();
    let started = Instant::now();
    let error = client.answer(&request()).await.unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{error} took {:?}",
        started.elapsed()
    );
    let requests = provider.requests().await.len();
    assert_eq!(error.tries as usize, requests);
    (error, requests)
}

/// Asserts the class and, with `max_tries` 2, the number of requests.
async fn fault(answer: fn() -> Answer, class: Class, requests: usize) -> Error {
    let (error, cost) = fails(settings, answer).await;
    assert_eq!((error.class, cost), (class, requests), "{error}");
    error
}

#[tokio::test]
async fn rate_waits_as_told_and_costs_no_try() {
    let provider = Provider::start(|n| match n {
        0..3 => Answer::plain(
            "429 Slow",
            "retry-after-ms: 100\r\nretry-after: 7\r\n",
            "slow down",
        ),
        _ => Answer::events(&[HI, STOP, DONE]).ended(),
    });
    let provider = provider.await;
    let started = Instant::now();
    let (_, completion) = client(&provider.url).answer(&request()).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!((completion.tries, provider.requests().await.len()), (4, 4));
}

#[tokio::test]
async fn rate_gives_up_at_once_when_told_to_wait_past_the_deadline() {
    let started = Instant::now();
    let error = fault(
        || Answer::plain("429 Slow", "retry-after: 60\r\n", "slow down"),
        Class::Rate,
        1,
    )
    .await;
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(
        (error.status, error.retry_after),
        (Some(429), Some(Duration::from_secs(60)))
    );
    assert_eq!(
        error.to_string(),
        "rate: the provider answered 429: slow down"
    );
}

#[tokio::test]
async fn quota_is_final() {
    let error = fault(
        || {
            Answer::plain(
                "429 Pay",
                "retry-after: 0\r\n",
                r#"{"error":{"message":"no credit","code":"insufficient_quota"}}"#,
            )
        },
        Class::Quota,
        1,
    )
    .await;
    assert_eq!(error.status, Some(429));
}

#[tokio::test]
async fn a_late_first_token_is_tried_again() {
    fault(|| Answer::nothing().hangs(), Class::FirstToken, 2).await;
    fault(
        || {
            Answer::events(&[r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#])
                .hangs()
        },
        Class::FirstToken,
        2,
    )
    .await;
}

#[tokio::test]
async fn a_stall_is_tried_again() {
    fault(|| Answer::events(&[HI]).hangs(), Class::Stall, 2).await;
}

#[tokio::test]
async fn a_truncated_answer_is_tried_again_however_it_was_cut() {
    let cut = fault(|| Answer::events(&[HI]).cut(), Class::Truncated, 2).await;
    assert!(cut.message.starts_with("the answer was cut"), "{cut}");
    fault(|| Answer::events(&[HI]).ended(), Class::Truncated, 2).await;
    fault(|| Answer::events(&[DONE]).ended(), Class::Truncated, 2).await;
    fault(|| Answer::bytes("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: \"caf\u{e9}").without_last_byte().cut(), Class::Truncated, 2).await;
}

#[tokio::test]
async fn done_without_a_reason_is_an_end_only_where_accepted() {
    fault(|| Answer::events(&[HI, DONE]).ended(), Class::Truncated, 2).await;

    let provider = Provider::start(|_| Answer::events(&[HI, DONE]).ended()).await;
    let accepting = Settings {
        accept_done: true,
        ..settings(&provider.url)
    };
    let told = Client::new(accepting).unwrap().answer(&request()).await;
    let (text, completion) = told.unwrap();
    assert_eq!((text.as_str(), completion.finish), ("Hi ", Finish::Other));
}

#[tokio::test]
async fn a_failing_provider_is_tried_again_whatever_it_says() {
    let busy = fault(
        || Answer::plain("503 Busy", "", "<html>busy"),
        Class::Provider,
        2,
    )
    .await;
    assert_eq!(busy.status, Some(503));
    fault(
        || Answer::plain("529 Overloaded", "", ""),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::plain("408 Timeout", "", "too slow"),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::plain("200 OK", "content-type: text/html\r\n", "<html>"),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::json(r#"{"error":{"message":"busy","code":502}}"#),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::events(&[HI, r#"{"error":{"message":"busy","code":502}}"#]).ended(),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::events(&[HI, r#"{"object":"error","message":"busy","code":502}"#]).ended(),
        Class::Provider,
        2,
    )
    .await;
    fault(
        || Answer::events(&[HI, "{\"choices\":"]).ended(),
        Class::Provider,
        2,
    )
    .await;
}

#[tokio::test]
async fn an_answer_past_its_bound_is_not_read_on() {
    let small = |url: &str| Settings {
        max_answer_bytes: 100,
        ..settings(url)
    };
    let (error, requests) =
        fails(small, || Answer::events(&[HI, HI, HI, STOP, DONE]).ended()).await;
    assert_eq!((error.class, requests), (Class::Provider, 2));
    assert_eq!(error.message, "the answer is larger than 100 bytes");
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_tried_again() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = client(&format!("http://{closed}/v1"))
        .answer(&request())
        .await
        .unwrap_err();
    assert_eq!((error.class, error.tries), (Class::Connect, 2));
    let says = format!(
        "cannot connect to http://{closed} (is the model's URL right, and is it up?): Connection refused"
    );
    assert!(error.message.starts_with(&says), "{error}");
}

/// Whoever hangs up may have died of the request, or charge for it. The first answer keeps the connection, so that the
/// request goes over an old one once and over new ones then.
#[tokio::test]
async fn a_request_that_was_sent_is_sent_again_no_more_often_than_tries_are_counted() {
    let provider = Provider::start(|n| match n {
        0 => Answer::events(&[HI, STOP, DONE]).ended(),
        _ => Answer::nothing().cut(),
    });
    let provider = provider.await;
    let patient = Settings {
        deadlines: Deadlines::default(),
        max_tries: 3,
        ..settings(&provider.url)
    };
    let client = Client::new(patient).unwrap();
    client.answer(&request()).await.unwrap();
    let error = client.answer(&request()).await.unwrap_err();
    assert_eq!((error.class, error.tries), (Class::Truncated, 3), "{error}");
    assert!(
        error.message.contains("hung up before it answered"),
        "{error}"
    );
    assert_eq!(provider.requests().await.len(), 1 + 3);
}

#[tokio::test]
async fn a_provider_that_restarts_is_waited_for() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let patient = |url: &str| Settings {
        deadlines: Deadlines::default(),
        max_tries: 1,
        ..settings(url)
    };
    let client = Client::new(patient(&format!("http://{address}/v1"))).unwrap();
    let started = Instant::now();
    let request = request();
    let back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Provider::start_at(address, |_| Answer::events(&[HI, STOP, DONE]).ended()).await
    };
    let (answer, provider) = tokio::join!(client.answer(&request), back);
    let (text, completion) = answer.unwrap();
    assert_eq!(text, "Hi ");
    assert!(completion.tries > 2, "{completion:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(provider.requests().await.len(), 1);
}

#[tokio::test]
async fn a_provider_that_does_not_take_the_connection_is_given_up_in_time() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _fills_the_queue = TcpStream::connect(address).await.unwrap();
    let late = |url: &str| Settings {
        deadlines: Deadlines {
            connect: Duration::from_millis(200),
            ..settings(url).deadlines
        },
        ..settings(url)
    };
    let client = Client::new(late(&format!("http://{address}/v1"))).unwrap();
    let started = Instant::now();
    let error = client.answer(&request()).await.unwrap_err();
    assert_eq!((error.class, error.tries), (Class::Connect, 2), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn refusals_are_final() {
    fault(|| Answer::plain("401 No", "", ""), Class::Auth, 1).await;
    fault(|| Answer::plain("403 No", "", ""), Class::Auth, 1).await;
    fault(
        || {
            Answer::plain(
                "400 Long",
                "",
                r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#,
            )
        },
        Class::Context,
        1,
    )
    .await;
    fault(
        || {
            Answer::plain(
                "400 Bad",
                "",
                r#"{"error":{"code":400,"message":"bad temperature"}}"#,
            )
        },
        Class::Request,
        1,
    )
    .await;
    fault(
        || {
            Answer::plain(
                "404 None",
                "",
                r#"{"error":{"message":"no such model","code":"model_not_found"}}"#,
            )
        },
        Class::Request,
        1,
    )
    .await;
    let moved = fault(
        || Answer::plain("308 Moved", "location: https://elsewhere/v1\r\n", ""),
        Class::Request,
        1,
    )
    .await;
    assert!(
        moved
            .message
            .contains("https://elsewhere/v1: write the new address"),
        "{moved}"
    );
}

#[tokio::test]
async fn blocked_is_final() {
    fault(
        || {
            Answer::plain(
                "400 Bad",
                "",
                r#"{"error":{"code":"content_filter","message":"no"}}"#,
            )
        },
        Class::Blocked,
        1,
    )
    .await;
    fault(
        || {
            Answer::events(&[
                HI,
                r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
                DONE,
            ])
            .ended()
        },
        Class::Blocked,
        1,
    )
    .await;
}

#[tokio::test]
async fn the_total_deadline_ends_a_try_that_is_not_late_yet() {
    let slow = |url: &str| Settings {
        deadlines: Deadlines {
            total: Duration::from_millis(200),
            ..Deadlines::default()
        },
        ..settings(url)
    };
    let (error, requests) = fails(slow, || Answer::events(&[HI]).hangs()).await;
    assert_eq!((error.class, requests), (Class::Deadline, 1));
}
