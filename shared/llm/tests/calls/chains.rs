//! A model that fails, and those that are asked in its place: at once, from the beginning, and never mixed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use llm::{
    Asked, Class, Client, Deadlines, Done, Gate, Kind, Leave, Manner, Model, Pass, Piece, Request,
    Settings,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::provider::{Answer, Provider};
use crate::tapes::{Given, given, kept};
use crate::{DONE, HI, STOP, USAGE, YOU, request, settings, soon};

fn whole() -> Answer {
    Answer::events(&[YOU, STOP, USAGE, DONE]).ended()
}

async fn good() -> Provider {
    Provider::start(|_| whole()).await
}

fn named(url: &str, name: &str) -> Model {
    Model {
        settings: settings(url),
        manner: Manner {
            name: Some(name.to_owned()),
            ..Manner::default()
        },
    }
}

fn chain(first: &str, then: &[&str]) -> Client {
    let first = Model::new(settings(first));
    let then = then.iter().zip(["second", "third"]);
    let then = then.map(|(url, name)| named(url, name));
    Client::chain(first, then.collect()).unwrap()
}

/// The texts with `|` for each restart, and how it ended.
fn told((pieces, failed): Given) -> (String, Option<Class>, u32) {
    let (mut text, mut tries) = (String::new(), 0);
    for piece in pieces {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Restart { .. } => text.push('|'),
            Piece::End(completion) => tries = completion.tries,
        }
    }
    match failed {
        Some((class, _, tries)) => (text, Some(class), tries),
        None => (text, None, tries),
    }
}

async fn call(client: &Client) -> (String, Option<Class>, u32) {
    told(soon(given(client, &request())).await)
}

fn body(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

type Fault = fn() -> Answer;

const CONTEXT: Fault = || Answer::plain("400 Bad", "", "context_length_exceeded");

#[tokio::test]
async fn what_another_model_may_answer_it_answers_at_once() {
    let faults: [(Fault, &str); 10] = [
        (|| Answer::plain("503 Busy", "", "busy"), "you"),
        (
            || Answer::plain("200 OK", "content-type: text/html\r\n", "<html>"),
            "you",
        ),
        (
            || Answer::plain("429 Slow", "retry-after: 5\r\n", "slow"),
            "you",
        ),
        (|| Answer::plain("402 Pay", "", "pay"), "you"),
        (|| Answer::plain("401 Who", "", "who"), "you"),
        (CONTEXT, "you"),
        (|| Answer::nothing().hangs(), "you"),
        (|| Answer::events(&[HI]).hangs(), "Hi |you"),
        (|| Answer::events(&[HI]).cut(), "Hi |you"),
        (|| Answer::events(&[HI, "{broken"]).ended(), "Hi |you"),
    ];
    for (number, (fault, text)) in faults.into_iter().enumerate() {
        let (bad, good) = (Provider::start(move |_| fault()).await, good().await);
        let client = chain(&bad.url, &[&good.url]);
        let started = Instant::now();
        assert_eq!(call(&client).await, (text.to_owned(), None, 2), "{number}");
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{number} waited"
        );
        assert_eq!(
            (bad.requests().await.len(), good.requests().await.len()),
            (1, 1)
        );
    }
}

#[tokio::test]
async fn a_model_that_takes_no_connection_is_not_waited_for() {
    let good = good().await;
    let client = chain("http://127.0.0.1:1/v1", &[&good.url]);
    assert_eq!(call(&client).await, ("you".to_owned(), None, 2));
}

#[tokio::test]
async fn what_no_model_could_mend_asks_no_other() {
    let faults: [(Fault, Class); 2] = [
        (
            || Answer::plain("400 Bad", "", "no such field"),
            Class::Request,
        ),
        (
            || Answer::events(&[r#"{"choices":[{"delta":{"refusal":"I"}}]}"#]).ended(),
            Class::Blocked,
        ),
    ];
    for (fault, class) in faults {
        let (bad, good) = (Provider::start(move |_| fault()).await, good().await);
        let client = chain(&bad.url, &[&good.url]);
        assert_eq!(call(&client).await, (String::new(), Some(class), 1));
        assert!(good.requests().await.is_empty());
    }
}

#[tokio::test]
async fn the_last_model_is_tried_again_as_one_alone_is() {
    let bad = Provider::start(|_| Answer::plain("503 Busy", "", "busy")).await;
    let late = Provider::start(|n| match n {
        0 => Answer::plain("503 Busy", "", "busy"),
        _ => whole(),
    });
    let client = chain(&bad.url, &[&bad.url, &late.await.url]);
    assert_eq!(call(&client).await, ("you".to_owned(), None, 4));
    let client = chain(&bad.url, &[&bad.url]);
    let failed = (String::new(), Some(Class::Provider), 3);
    assert_eq!(call(&client).await, failed);
}

#[tokio::test]
async fn all_models_share_the_deadline_of_the_first() {
    let hangs = Provider::start(|_| Answer::nothing().hangs()).await;
    let short = Settings {
        deadlines: Deadlines {
            total: Duration::from_millis(500),
            ..settings("").deadlines
        },
        ..settings(&hangs.url)
    };
    let then = vec![named(&hangs.url, "second"), named(&hangs.url, "third")];
    let client = Client::chain(Model::new(short), then).unwrap();
    let failed = (String::new(), Some(Class::Deadline), 2);
    assert_eq!(call(&client).await, failed);
}

#[tokio::test]
async fn each_model_is_asked_in_its_manner_and_shown_its_own_key() {
    let bad = Provider::start(|_| Answer::plain("401 Who", "", "who is sk-first?")).await;
    let bare = Provider::start(|_| Answer::plain("503 Busy", "", "busy: sk-first")).await;
    let with_key = |url: &str, key: &str| Settings {
        api_key: Some(key.into()),
        max_tries: 1,
        ..settings(url)
    };
    let manner = Manner {
        name: Some("tiny".to_owned()),
        temperature: Some(0.25),
        max_tokens: Some(50),
        window: None,
    };
    let second = Model {
        settings: with_key(&bare.url, "sk-second"),
        manner,
    };
    let first = Model::new(with_key(&bad.url, "sk-first"));
    let client = Client::chain(first, vec![second]).unwrap();
    let request = Request {
        temperature: Some(0.75),
        max_tokens: Some(90),
        ..request()
    };
    let failed = client.answer(&request).await.unwrap_err();
    assert!(failed.message.ends_with("busy: [key]"), "{failed}");
    for (provider, key, [model, temperature, max_tokens]) in [
        (bad, "sk-first", ["\"m\"", "0.75", "90"]),
        (bare, "sk-second", ["\"tiny\"", "0.25", "50"]),
    ] {
        let [asked] = provider.requests().await.try_into().unwrap();
        assert!(asked.contains(&format!("Bearer {key}\r\n")), "{asked}");
        let body = body(&asked);
        let told = ["model", "temperature", "max_tokens"].map(|field| body[field].to_string());
        assert_eq!(told, [model, temperature, max_tokens]);
    }
}

#[tokio::test]
async fn a_model_whose_window_is_too_small_is_passed_over() {
    let bad = Provider::start(|_| Answer::plain("503 Busy", "", "busy")).await;
    let with = |provider: &Provider, window| {
        let mut model = named(&provider.url, "second");
        model.manner.window = Some(window);
        model
    };
    let (small, large) = (good().await, good().await);
    for (window, takes) in [(99, "large"), (100, "small")] {
        let then = vec![with(&small, window), with(&large, 1_000)];
        let client = Client::chain(Model::new(settings(&bad.url)), then).unwrap();
        let request = Request {
            tokens: Some(60),
            max_tokens: Some(40),
            ..request()
        };
        client.answer(&request).await.unwrap();
        let asked = (small.requests().await.len(), large.requests().await.len());
        let expected = if takes == "large" { (0, 1) } else { (1, 1) };
        assert_eq!(asked, expected, "{window}");
    }
}

/// Says of each request what becomes of it, and keeps what it was asked and told.
fn gate(decide: impl Fn(Asked) -> bool + Send + Sync + 'static) -> (Gate, Heard) {
    let heard = Heard::default();
    let tells = Arc::clone(&heard);
    let gate = Gate::new(move |asked| {
        tells.lock().unwrap().push(format!(
            "{} {:?}{}",
            asked.model,
            asked.kind,
            if asked.is_last { ", last" } else { "" }
        ));
        let told = Arc::clone(&tells);
        let pass = Pass::new(move |done: Done| {
            told.lock().unwrap().push(format!("{:?}", done.failed));
        });
        let leave = match (decide(asked), asked.kind) {
            (true, _) => Leave::Go(pass),
            (false, Kind::Retry) => Leave::Stop,
            (false, _) => Leave::Next,
        };
        async { Ok(leave) }.boxed()
    });
    (gate, heard)
}

type Heard = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn a_gate_is_asked_which_model_and_may_pass_one_over_or_stop_a_retry() {
    let bad = Provider::start(|_| Answer::plain("503 Busy", "", "busy")).await;
    let client = chain(&bad.url, &[&bad.url, &bad.url]);
    let (gate, heard) = gate(|asked| asked.model != 1 && asked.kind != Kind::Retry);
    let failed = (String::new(), Some(Class::Provider), 2);
    assert_eq!(call(&client.through(gate)).await, failed);
    let heard = heard.lock().unwrap().clone();
    assert_eq!(
        heard,
        [
            "0 First",
            "Some(Provider)",
            "1 Fallback",
            "2 Fallback, last",
            "Some(Provider)",
            "2 Retry, last"
        ]
    );
}

#[tokio::test]
async fn the_last_model_that_a_gate_passes_over_is_asked_all_the_same() {
    let good = good().await;
    let client = chain(&good.url, &[&good.url]);
    let (gate, heard) = gate(|_| false);
    assert_eq!(
        call(&client.through(gate)).await,
        ("you".to_owned(), None, 1)
    );
    assert_eq!(*heard.lock().unwrap(), ["0 First", "1 First, last"]);
    assert_eq!(body(&good.requests().await[0])["model"], "second");
}

/// A client with the manners of another one, which nobody answers.
fn offline(like: &Client) -> Client {
    let mut models = like.manners().map(|(manner, _)| Model {
        settings: Settings {
            deadlines: Deadlines::NONE,
            ..settings("http://127.0.0.1:1/v1")
        },
        manner: manner.clone(),
    });
    let first = models.next().unwrap();
    Client::chain(first, models.collect()).unwrap()
}

#[tokio::test]
async fn a_call_that_moved_is_played_as_it_went() {
    let good = good().await;
    let bad = Provider::start(|_| Answer::events(&[HI]).cut()).await;
    let asked: [fn(Asked) -> bool; 3] = [
        |_| true,
        // Of one that was passed over nothing is written down.
        |asked| asked.model > 0,
        |asked| asked.kind == Kind::First,
    ];
    let (bad, good) = (bad.url.as_str(), good.url.as_str());
    let chains = [vec![good], vec![bad, good], vec![bad, bad]];
    let cases = chains
        .iter()
        .flat_map(|then| asked.map(|decide| (then, decide)));
    for (then, decide) in cases {
        let client = chain(bad, then);
        let (taped, tape) = client.through(gate(decide).0).taped();
        let live = [
            given(&taped, &request()).await,
            given(&taped, &request()).await,
        ];
        let calls = tape.take();
        let (playing, again) = offline(&client).playing(kept(&calls), 0.0);
        for told in live {
            assert_eq!(soon(given(&playing, &request())).await, told);
        }
        let bodies = |calls: &[llm::Recorded]| -> Vec<String> {
            let bodies = calls.iter().map(|call| call.request.get().to_owned());
            bodies.collect()
        };
        assert_eq!(bodies(&again.take()), bodies(&calls));
        assert!(again.unanswered().is_empty());
    }
}

#[tokio::test]
async fn an_answer_of_another_model_is_not_bought_again() {
    let bad = Provider::start(|_| Answer::plain("503 Busy", "", "busy")).await;
    let good = good().await;
    let (client, mut paid) = chain(&bad.url, &[&good.url]).keeping(Vec::new());
    client.answer(&request()).await.unwrap();
    let bought = paid.recv().await.unwrap();
    assert!(!bought.again);
    let (again, _) = client.keeping(vec![bought.paid]);
    let (text, completion) = again.answer(&request()).await.unwrap();
    assert_eq!((text.as_str(), completion.model.as_str()), ("you", "m-1"));
    assert_eq!(
        (bad.requests().await.len(), good.requests().await.len()),
        (1, 1)
    );
}
