//! Answers that are paid for are told once, and given back in the place of the provider.

use std::sync::{Arc, Mutex};

use llm::{Client, Message, Observer, Paid, Piece, Request};

use crate::provider::{Answer, Provider};
use crate::{DONE, HI, STOP, USAGE, YOU, request, settings};

fn whole() -> Answer {
    Answer::events(&[HI, YOU, STOP, USAGE, DONE]).ended()
}

/// The texts of a call, and what its answer cost in tokens.
async fn told(client: &Client, request: &Request) -> (String, u32) {
    let mut call = client.stream(request);
    let mut text = String::new();
    loop {
        match call.next().await.unwrap().unwrap() {
            Piece::Text(more) => text.push_str(&more),
            Piece::Restart { .. } => text.clear(),
            Piece::End(completion) => return (text, completion.usage.completion),
        }
    }
}

async fn kept(
    provider: &Provider,
    given: Vec<Paid>,
    asked: &[Request],
) -> (Vec<String>, Vec<Paid>) {
    let client = Client::new(settings(&provider.url)).unwrap();
    let (client, mut paid) = client.keeping(given);
    let mut texts = Vec::new();
    for request in asked {
        texts.push(told(&client, request).await.0);
    }
    drop(client);
    let mut told = Vec::new();
    while let Some(bought) = paid.recv().await {
        told.push(bought.paid);
    }
    (texts, told)
}

#[tokio::test]
async fn an_answer_that_is_paid_for_is_not_bought_again() {
    let provider = Provider::start(|_| whole()).await;
    let (texts, paid) = kept(&provider, Vec::new(), &[request()]).await;
    assert_eq!(
        (texts.as_slice(), paid.len()),
        (&["Hi you".to_owned()][..], 1)
    );
    let json = serde_json::to_string(&paid).unwrap();
    let paid: Vec<Paid> = serde_json::from_str(&json).unwrap();
    let (texts, told) = kept(&provider, paid, &[request()]).await;
    assert_eq!(texts, ["Hi you"]);
    assert_eq!((told, provider.requests().await.len()), (Vec::new(), 1));
}

#[tokio::test]
async fn only_what_asks_the_same_is_answered_so_and_each_answer_is_given_once() {
    let provider = Provider::start(|_| whole()).await;
    let other = Request {
        messages: vec![Message::user("I close it")],
        ..request()
    };
    let (_, paid) = kept(&provider, Vec::new(), &[request()]).await;
    let (_, told) = kept(&provider, paid, &[other, request(), request()]).await;
    // Of three calls one was given.
    assert_eq!((told.len(), provider.requests().await.len()), (2, 3));
}

#[tokio::test]
async fn a_try_that_failed_leaves_nothing_in_the_answer() {
    let provider = Provider::start(|n| match n {
        0 => Answer::events(&[HI]).ended(),
        _ => whole(),
    })
    .await;
    let (_, paid) = kept(&provider, Vec::new(), &[request()]).await;
    assert_eq!(paid[0].text, "Hi you");
}

#[tokio::test]
async fn what_is_given_back_costs_nothing_and_is_written_down() {
    let provider = Provider::start(|_| whole()).await;
    let (_, paid) = kept(&provider, Vec::new(), &[request()]).await;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let told_to = Arc::clone(&ended);
    let settings = llm::Settings {
        observer: Observer::new(move |one| told_to.lock().unwrap().push(one)),
        ..settings(&provider.url)
    };
    let (client, tape) = Client::new(settings).unwrap().taped();
    let (client, _told) = client.keeping(paid);
    assert_eq!(told(&client, &request()).await, ("Hi you".to_owned(), 2));
    {
        let ended = ended.lock().unwrap();
        assert!(!ended[0].sent && ended[0].usage == llm::Usage::default());
    }
    let recorded = tape.take();
    assert_eq!(recorded[0].text(), "Hi you");
    let (replayed, _tape) = client.playing(recorded, 0.0);
    assert_eq!(told(&replayed, &request()).await, ("Hi you".to_owned(), 2));
}
