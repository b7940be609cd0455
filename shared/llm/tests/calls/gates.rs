//! Leave to send: asked for before each request, and told once what it used.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use llm::{Asked, Class, Client, Done, Error, Gate, Leave, Pass, Spent, Tape};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::provider::{Answer, Provider};
use crate::{DONE, HI, STOP, USAGE, client, request, settings, soon};

/// What was asked for and what was told, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn gate(told: &Told) -> Gate {
    let told = Arc::clone(told);
    Gate::new(move |asked| {
        note(&told, format!("asked {:?}", asked.most.answer));
        let told = Arc::clone(&told);
        let pass = Pass::new(move |done| note(&told, words(done)));
        async { Ok(Leave::Go(pass)) }.boxed()
    })
}

fn note(told: &Told, what: String) {
    told.lock().unwrap().push(what);
}

fn words(done: Done) -> String {
    let spent = match done.spent {
        Spent::Told(usage) => format!("{}+{}", usage.prompt, usage.completion),
        Spent::Nothing => "nothing".to_owned(),
        Spent::Unknown => "unknown".to_owned(),
    };
    match done.pause {
        Some(pause) => format!("{spent}, pause {pause:?}"),
        None => spent,
    }
}

/// How a call through a gate ends, and what the gate heard.
async fn call(client: Client) -> (Option<Class>, Vec<String>) {
    let told = Told::default();
    let ended = client.through(gate(&told)).answer(&request()).await;
    let heard = told.lock().unwrap().clone();
    (ended.err().map(|error| error.class), heard)
}

#[tokio::test]
async fn each_request_is_asked_for_and_what_it_used_is_told_once() {
    let provider = Provider::start(|n| match n {
        0 => Answer::plain("429 Slow", "retry-after-ms: 20\r\n", "slow down"),
        1 => Answer::events(&[HI]).ended(),
        _ => Answer::events(&[HI, STOP, USAGE, DONE]).ended(),
    })
    .await;
    let told = call(client(&provider.url)).await;
    let asked = "asked None".to_owned();
    let (refused, cut, whole) = ("nothing, pause 20ms", "unknown", "7+2");
    let [refused, cut, whole] = [refused, cut, whole].map(str::to_owned);
    let heard = vec![asked.clone(), refused, asked.clone(), cut, asked, whole];
    assert_eq!(told, (None, heard));
}

/// Reasoning costs what text does, and nobody sees it.
#[tokio::test]
async fn what_breaks_off_once_it_has_begun_may_have_cost_all() {
    const THINKS: &str = r#"{"choices":[{"delta":{"reasoning_content":"Hm"}}]}"#;
    for (before, spent) in [
        (&[HI][..], "unknown"),
        (&[THINKS], "unknown"),
        (&[], "nothing"),
    ] {
        for (code, message) in [(500, "sorry"), (429, "slow")] {
            let frame = json!({"error": {"code": code, "message": message}}).to_string();
            let provider = Provider::start(move |n| match n {
                0 => Answer::events(&[before, &[&frame]].concat()).ended(),
                _ => Answer::events(&[HI, STOP, USAGE, DONE]).ended(),
            })
            .await;
            let (_, heard) = call(client(&provider.url)).await;
            let told = heard[1].split(',').next();
            assert_eq!(told, Some(spent), "{before:?} {code}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_fails_pauses_nobody_and_is_paid_for_nothing() {
    for (status, spent) in [
        ("503 Busy", "nothing"),
        ("500 Sorry", "nothing"),
        ("504 Late", "unknown"),
    ] {
        let provider = Provider::start(move |n| match n {
            0 => Answer::plain(status, "retry-after-ms: 20\r\n", "busy"),
            _ => Answer::events(&[HI, STOP, USAGE, DONE]).ended(),
        })
        .await;
        let (class, heard) = call(client(&provider.url)).await;
        let [asked, failed] = ["asked None", spent].map(str::to_owned);
        let whole = "7+2".to_owned();
        assert_eq!(
            (class, heard),
            (None, vec![asked.clone(), failed, asked, whole])
        );
    }
}

#[tokio::test]
async fn the_tokens_of_a_prompt_are_as_somebody_counted_or_half_its_bytes() {
    let provider = Provider::start(|_| Answer::events(&[HI, STOP, DONE]).ended()).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    for tokens in [Some(70), None] {
        let asked = Arc::clone(&asked);
        let gate = Gate::new(move |Asked { most, .. }| {
            asked.lock().unwrap().push(most.prompt);
            async { Ok(Leave::Go(Pass::new(|_| {}))) }.boxed()
        });
        let request = llm::Request {
            tokens,
            ..request()
        };
        let call = client(&provider.url).through(gate);
        call.answer(&request).await.unwrap();
    }
    let bytes = request().body().get().len() as u64;
    assert_eq!(*asked.lock().unwrap(), [70, bytes.div_ceil(2)]);
}

#[tokio::test]
async fn a_call_that_is_refused_leave_sends_nothing() {
    let provider = Provider::start(|_| Answer::events(&[HI, STOP, DONE]).ended()).await;
    let gate = Gate::new(|_: Asked| {
        async { Err(Error::new(Class::Budget, "nothing is left of the day's")) }.boxed()
    });
    let call = client(&provider.url).through(gate);
    let error = call.answer(&request()).await.unwrap_err();
    assert_eq!((error.class, error.tries), (Class::Budget, 0));
    assert_eq!(provider.connections(), 0);
}

#[tokio::test]
async fn the_wait_for_leave_is_none_of_the_calls_time() {
    let provider = Provider::start(|_| Answer::events(&[HI, STOP, DONE]).ended()).await;
    let leave = Arc::new(Semaphore::new(0));
    let gate = {
        let leave = Arc::clone(&leave);
        Gate::new(move |_| {
            let leave = Arc::clone(&leave);
            async move {
                leave.acquire_owned().await.unwrap().forget();
                Ok(Leave::Go(Pass::new(|_| {})))
            }
            .boxed()
        })
    };
    let mut short = settings(&provider.url);
    short.deadlines.total = Duration::from_millis(400);
    let client = Client::new(short).unwrap().through(gate);
    let request = request();
    let mut call = client.stream(&request);
    let wait = tokio::time::timeout(Duration::from_millis(600), call.next()).await;
    assert!(wait.is_err(), "nobody let it through");
    leave.add_permits(1);
    let mut last = None;
    while let Some(piece) = soon(call.next()).await.unwrap() {
        last = Some(piece);
    }
    let Some(llm::Piece::End(completion)) = last else {
        panic!("{last:?}");
    };
    assert!(completion.elapsed < Duration::from_millis(400));
}

#[tokio::test]
async fn a_dropped_call_tells_that_nobody_knows_what_it_used() {
    let provider = Provider::start(|_| Answer::events(&[HI])).await;
    let told = Told::default();
    let client = client(&provider.url).through(gate(&told));
    let request = request();
    let mut call = client.stream(&request);
    soon(call.next()).await.unwrap();
    drop(call);
    assert_eq!(*told.lock().unwrap(), ["asked None", "unknown"]);
}

/// What was written down of a call, played again: how it ends, and how many requests that were sent it tells.
async fn played(tape: &Tape, client: &Client) -> (Option<Class>, u32) {
    let recorded = tape.take();
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    let json = serde_json::to_string(&recorded).unwrap();
    let (again, _) = client.playing(serde_json::from_str(&json).unwrap(), 0.0);
    match again.answer(&request()).await {
        Ok((_, completion)) => (None, completion.tries),
        Err(error) => (Some(error.class), error.tries),
    }
}

#[tokio::test]
async fn a_call_that_was_refused_leave_is_written_down_and_played_so() {
    let provider = Provider::start(|_| Answer::events(&[HI]).ended()).await;
    // One whose first try may be sent, and one that may send nothing.
    for lets in [1, 0] {
        let left = Arc::new(Mutex::new(lets));
        let gate = Gate::new(move |_| {
            let mut left = left.lock().unwrap();
            let may = *left > 0;
            *left -= i32::from(may);
            let refused = || Error::new(Class::Budget, "nothing is left of the day's");
            let leave = may
                .then(|| Leave::Go(Pass::new(|_| {})))
                .ok_or_else(refused);
            async move { leave }.boxed()
        });
        let client = client(&provider.url);
        let (taped, tape) = client.taped();
        let live = taped.through(gate).answer(&request()).await.unwrap_err();
        let sent = u32::try_from(lets).unwrap();
        assert_eq!((live.class, live.tries), (Class::Budget, sent));
        assert_eq!(played(&tape, &client).await, (Some(Class::Budget), sent));
    }
}

#[tokio::test]
async fn a_call_that_was_let_go_while_it_waited_for_leave_is_written_down_so() {
    let provider = Provider::start(|_| Answer::events(&[HI]).ended()).await;
    let client = client(&provider.url);
    let (taped, tape) = client.taped();
    let waits = Gate::new(|_: Asked| std::future::pending().boxed());
    let request = request();
    let mut call = taped.through(waits).stream(&request);
    assert!(call.next().now_or_never().is_none());
    drop(call);
    assert_eq!(played(&tape, &client).await, (Some(Class::Cancelled), 0));
}
