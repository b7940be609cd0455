//! Calls that are written down and played again: the same pieces, the same end.

use std::time::Duration;

use llm::{
    Class, Client, Completion, Deadlines, Labels, Message, Piece, Recorded, Request, Settings,
};
use tokio::time::{Instant, timeout};

use crate::provider::{Answer, Provider};
use crate::{DONE, HI, STOP, USAGE, YOU, client, request, settings, soon};

/// Everything that a call gave.
pub(crate) type Given = (Vec<Piece>, Option<(Class, String, u32)>);

pub(crate) async fn given(client: &Client, request: &Request) -> Given {
    let mut call = client.stream(request);
    let mut pieces = Vec::new();
    loop {
        match call.next().await {
            Ok(Some(Piece::End(completion))) => pieces.push(Piece::End(in_ms(completion))),
            Ok(Some(piece)) => pieces.push(piece),
            Ok(None) => return (pieces, None),
            Err(error) => return (pieces, Some((error.class, error.message, error.tries))),
        }
    }
}

/// As it is told in events.
fn in_ms(completion: Completion) -> Completion {
    let ms = |time: Duration| Duration::from_millis(time.as_millis().try_into().unwrap());
    Completion {
        first_token: ms(completion.first_token),
        elapsed: ms(completion.elapsed),
        ..completion
    }
}

/// As a program of another day reads it.
pub(crate) fn kept(calls: &[Recorded]) -> Vec<Recorded> {
    serde_json::from_str(&serde_json::to_string(calls).unwrap()).unwrap()
}

fn playing(calls: &[Recorded], speed: f64) -> (Client, llm::Tape) {
    let settings = Settings {
        deadlines: Deadlines::NONE,
        ..settings("http://127.0.0.1:1/v1")
    };
    Client::new(settings).unwrap().playing(kept(calls), speed)
}

fn text(calls: &[Recorded]) -> String {
    calls.iter().map(Recorded::text).collect()
}

#[tokio::test]
async fn whatever_the_provider_does_is_played_alike() {
    let good = || Answer::events(&[HI, YOU, STOP, USAGE, DONE]).ended();
    let busy = || Answer::plain("503 Busy", "", "<html>busy");
    let slow = || Answer::plain("429 Slow", "retry-after-ms: 10\r\n", "slow down");
    let half = || {
        Answer::bytes("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 99\r\n\r\ndata: \"caf\u{e9}").without_last_byte().cut()
    };
    let faults: [fn() -> Answer; 10] = [
        || Answer::events(&[HI]).hangs(),
        || Answer::events(&[HI]).cut(),
        || Answer::events(&[HI]).ended(),
        || Answer::nothing().hangs(),
        || Answer::events(&[HI, "{broken", STOP, DONE]).ended(),
        || Answer::events(&[r#"{"choices":[{"delta":{"refusal":"I"}}]}"#]).ended(),
        || Answer::plain("200 OK", "content-type: text/html\r\n", "<html>"),
        || {
            Answer::plain(
                "400 Bad",
                "",
                r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#,
            )
        },
        || Answer::plain("302 Found", "location: http://elsewhere/\r\n", ""),
        || Answer::bytes("HTTP/1.1 503 Busy\r\ncontent-length: 99\r\n\r\nbusy").hangs(),
    ];
    let mut cases: Vec<Box<dyn Fn(usize) -> Answer + Send + Sync>> = vec![
        Box::new(move |_| good()),
        Box::new(move |n| if n == 0 { busy() } else { good() }),
        Box::new(move |n| if n < 3 { slow() } else { good() }),
        Box::new(move |n| if n == 0 { half() } else { good() }),
    ];
    for fault in faults {
        cases.push(Box::new(move |_| fault()));
        cases.push(Box::new(move |n| if n == 0 { fault() } else { good() }));
    }
    for (number, answer) in cases.into_iter().enumerate() {
        let provider = Provider::start(answer).await;
        let (live, tape) = client(&provider.url).taped();
        let told = given(&live, &request()).await;
        let calls = tape.take();
        assert_eq!(calls.len(), 1, "{number}");
        assert_eq!(calls[0].request.get(), request().body().get());
        if let Some(Piece::Text(_)) = told.0.first() {
            assert!(!text(&calls).is_empty(), "{number}");
        }

        let started = Instant::now();
        let (played, again) = playing(&calls, 0.0);
        assert_eq!(soon(given(&played, &request())).await, told, "{number}");
        assert!(
            started.elapsed() < Duration::from_millis(300),
            "{number} waited"
        );
        assert_eq!(text(&again.take()), text(&calls), "{number}");
        assert!(again.unanswered().is_empty());
    }
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_played_alike() {
    let (live, tape) = client("http://127.0.0.1:1/v1").taped();
    let told = given(&live, &request()).await;
    assert_eq!(told.1.as_ref().unwrap().0, Class::Connect);
    let (played, _) = playing(&tape.take(), 0.0);
    assert_eq!(soon(given(&played, &request())).await, told);
}

#[tokio::test]
async fn a_call_that_its_maker_gave_up_fails_when_it_is_played() {
    let provider = Provider::start(|_| Answer::events(&[HI]).hangs()).await;
    let (live, tape) = client(&provider.url).taped();
    let given_up = timeout(Duration::from_millis(100), live.answer(&request())).await;
    assert!(given_up.is_err());
    let (played, _) = playing(&tape.take(), 0.0);
    let error = soon(played.answer(&request())).await.unwrap_err();
    assert_eq!(error.class, Class::Cancelled);
}

#[tokio::test]
async fn a_judgement_is_played_alike() {
    const JUDGED: &str = r#"{"results":[{"flagged":true,"categories":{"hate":true}}]}"#;
    let provider = Provider::start(|n| match n {
        0 => Answer::plain("503 Busy", "", ""),
        _ => Answer::plain("200 OK", "", JUDGED),
    });
    let provider = provider.await;
    let (live, tape) = client(&provider.url).taped();
    let told = live
        .moderate(None, "dust", &Labels::default())
        .await
        .unwrap();
    let calls = tape.take();
    assert_eq!(calls[0].request.get(), r#"{"input":"dust"}"#);
    assert_eq!(text(&calls), JUDGED);
    let (played, _) = playing(&calls, 0.0);
    let again = played.moderate(None, "dust", &Labels::default()).await;
    assert_eq!(again.unwrap(), told);
}

#[tokio::test]
async fn what_was_not_recorded_is_named_and_what_is_asked_otherwise_is_kept() {
    let provider = Provider::start(|_| Answer::events(&[HI, STOP, DONE]).ended()).await;
    let (live, tape) = client(&provider.url).taped();
    live.answer(&request()).await.unwrap();
    let (played, again) = playing(&tape.take(), 0.0);
    let other = Request {
        messages: vec![Message::user("I close the door")],
        ..request()
    };
    assert_eq!(played.answer(&other).await.unwrap().0, "Hi ");
    assert_eq!(again.take()[0].request.get(), other.body().get());
    let error = played.answer(&other).await.unwrap_err();
    assert_eq!(error.message, "the recording has no such call");
    assert_eq!(again.unanswered()[0].get(), other.body().get());
}

/// Its caller has a limit of its own, and a provider holds its connection open behind a whole answer.
#[tokio::test]
async fn a_call_that_was_let_go_is_none_that_was_answered_however_far_its_answer_came() {
    for frames in [&[HI][..], &[HI, STOP], &[HI, STOP, USAGE]] {
        let provider = Provider::start(|_| Answer::events(frames).hangs()).await;
        let (live, tape) = client(&provider.url).taped();
        let mut call = live.stream(&request());
        let text = call.next().await.unwrap();
        assert_eq!(text, Some(Piece::Text("Hi ".to_owned())));
        // Until all that it says is here.
        let more = timeout(Duration::from_millis(100), call.next()).await;
        assert!(more.is_err(), "{more:?}");
        drop(call);
        let calls = tape.take();
        let (played, again) = playing(&calls, 0.0);
        let error = soon(played.answer(&request())).await.unwrap_err();
        assert_eq!(error.class, Class::Cancelled);
        let json = |calls: &[Recorded]| serde_json::to_value(calls).unwrap()[0]["tries"].clone();
        assert_eq!(json(&again.take())[0]["failed"], json(&calls)[0]["failed"]);
    }
}

#[tokio::test]
async fn a_played_answer_takes_its_time_where_asked() {
    let provider = Provider::start(|_| Answer::events(&[HI, STOP, DONE]).ended()).await;
    let (live, tape) = client(&provider.url).taped();
    live.answer(&request()).await.unwrap();
    let mut calls = tape.take();
    let pieces = &mut calls[0].tries[0].answer.as_mut().unwrap().pieces;
    pieces.iter_mut().for_each(|(at, _)| *at = 400);
    for (speed, least) in [(1.0, 400), (4.0, 100)] {
        let (played, _) = playing(&calls, speed);
        let started = Instant::now();
        soon(played.answer(&request())).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(least));
    }
}

#[tokio::test]
async fn a_key_that_a_provider_repeats_is_in_no_recording() {
    const KEY: &str = "sk-secret-0123456789";
    let provider = Provider::start(|n| match n {
        0 => Answer::plain(
            "503 Busy",
            &format!("location: http://x/?key={KEY}\r\n"),
            &format!("bad key {KEY}, {KEY}"),
        ),
        _ => Answer::events(&[
            &format!(r#"{{"choices":[{{"delta":{{"content":"{KEY}"}}}}]}}"#),
            STOP,
            DONE,
        ])
        .ended(),
    });
    let provider = provider.await;
    let settings = Settings {
        api_key: Some(KEY.into()),
        ..settings(&provider.url)
    };
    let (live, tape) = Client::new(settings).unwrap().taped();
    live.answer(&request()).await.unwrap();
    let calls = tape.take();
    let json = serde_json::to_string(&calls).unwrap();
    assert!(!json.contains(KEY), "{json}");
    assert_eq!(text(&calls), "[key]");
    let (played, _) = playing(&calls, 0.0);
    assert_eq!(played.answer(&request()).await.unwrap().0, "[key]");
}
