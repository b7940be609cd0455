//! What is said of a budget that has no room for a call, what counts as a call, and how claims end.

use std::net::TcpListener;
use std::process::Stdio;

use llm::Kind;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::ending::Claiming;
use super::*;
use crate::Metrics;
use bus::{Budget, Limits, Unit};

/// No state that a test waits for takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The desk of a worker that asks the first of these models, without a Redis.
fn desk(yaml: &str, first: &str) -> Arc<Desk> {
    told(yaml, first).0
}

/// And what it is to tell Redis.
fn told(yaml: &str, first: &str) -> (Arc<Desk>, mpsc::Receiver<Held>) {
    let bus = Bus::new(bus::Settings::new("redis://127.0.0.1:1")).unwrap();
    told_on(&bus, yaml, first)
}

/// The same on a Redis.
fn told_on(bus: &Bus, yaml: &str, first: &str) -> (Arc<Desk>, mpsc::Receiver<Held>) {
    let models = Models::parse(yaml).unwrap();
    let settings = llm::Settings::new("http://127.0.0.1:1/v1");
    let setup = Setup {
        llm: models.client(first, &settings).unwrap(),
        key_file: None,
        model: first.to_owned(),
        models,
        prompts: None,
    };
    let meters = Metrics::new().of(story::Agent::Narrator);
    Desk::new(bus, &setup, &meters, true).unwrap()
}

/// A redis-server, for as long as it is held.
struct Server {
    port: u16,
    _process: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Has it run a command of its operator.
    async fn is_told(&self, words: &str) {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        line.write_all(format!("{words}\r\n").as_bytes())
            .await
            .unwrap();
        let mut reply = [0; 5];
        line.read_exact(&mut reply).await.unwrap();
        assert_eq!(&reply, b"+OK\r\n", "{words}");
    }
}

/// One that answers, and a bus to it.
async fn redis() -> (Bus, Server) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, folder) = (
        free.local_addr().unwrap().port(),
        tempfile::tempdir().unwrap(),
    );
    drop(free);
    let child = Command::new("redis-server")
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--port",
            &port.to_string(),
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed");
    let bus = Bus::new(bus::Settings::new(format!("redis://127.0.0.1:{port}"))).unwrap();
    let answers = async { while bus.ping().await.is_err() {} };
    timeout(PATIENCE, answers).await.expect("Redis answers");
    let server = Server {
        port,
        _process: child,
        _folder: folder,
    };
    (bus, server)
}

fn payer() -> Payer {
    payer_of("a1")
}

fn payer_of(id: &str) -> Payer {
    let action = json!({
        "v": 1, "id": id, "type": "action", "story": "castle", "mode": "do", "text": "I wait.",
        "author": {"kind": "user", "id": "mira", "name": ""}, "at": "2026-11-24T01:02:03Z",
    });
    let action: Event = serde_json::from_value(action).unwrap();
    let response = action.response(story::Agent::Narrator, 0);
    Payer::new(&action, &[], &[], (&response, Attempt::new("1-0", 1)))
}

fn first(model: usize, is_last: bool) -> Asked {
    let most = Most {
        prompt: 100,
        answer: None,
    };
    Asked {
        model,
        kind: Kind::First,
        most,
        is_last,
    }
}

#[tokio::test]
async fn a_call_that_goes_to_another_model_for_the_limits_of_one_counts_once() {
    let yaml = "models: {a: {tokens_per_minute: 10, then: [b]}, b: {}}";
    let (desk, payer) = (desk(yaml, "a"), payer());
    let left = Arc::clone(&desk).leave(&payer, first(0, false)).await;
    assert!(matches!(left, Ok(Leave::Next)), "{left:?}");
    let left = Arc::clone(&desk).leave(&payer, first(1, true)).await;
    assert!(matches!(left, Ok(Leave::Go(_))), "{left:?}");
    assert_eq!(desk.breaker.as_ref().map(Breaker::calls), Some(1));
    assert!(desk.chain[0].is_told.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_any_more_is_let_go() {
    let yaml = "models: {a: {calls_at_once: 1}}";
    let ((desk, mut told), payer) = (told(yaml, "a"), payer());
    let mut leave = Box::pin(Arc::clone(&desk).leave(&payer, first(0, true)));
    assert!(futures::poll!(&mut leave).is_pending());
    assert!(told.try_recv().is_err());
    drop(leave);
    let held = told.try_recv().unwrap();
    assert_eq!(held.used, Some(Used::default()));
    assert!(held.may_come, "it is under way");
}

/// As behind a Redis that stood still: what ends a claim comes over another connection, and before the claim does.
#[tokio::test]
async fn a_claim_that_comes_after_its_end_was_told_is_let_go_all_the_same() {
    let (bus, _server) = redis().await;
    let (desk, told) = told_on(&bus, "models: {a: {calls_at_once: 1}}", "a");
    let most = first(0, true).most;
    let (payer, other) = (payer_of("a1"), payer_of("a2"));
    let [late, another, next] = [&payer, &other, &other].map(|payer| desk.claim(payer, 0, most));
    let same = Claim {
        number: late.number,
        ..desk.claim(&payer, 0, most)
    };
    let told_once = async {
        drop(Claiming::new(&desk, late));
        // One end is told after the other: once this one is taken, that one was told.
        desk.end(Held::nothing(another));
        while desk.ended.capacity() < desk.ended.max_capacity() {
            tokio::task::yield_now().await;
        }
    };
    let mut telling = Box::pin(Arc::clone(&desk).tell(told, CancellationToken::new()));
    let over = "nothing is told any more";
    tokio::select! {
        () = &mut telling => panic!("{over}"),
        () = told_once => {}
    }
    // Nothing more is told until the claim is there, however long that takes.
    let came = bus.admit(&desk.ask(&same)).await.unwrap();
    assert!(matches!(came, Admitted::Go), "{came:?}");
    let other = bus.admit(&desk.ask(&next)).await.unwrap();
    assert!(matches!(other, Admitted::Wait { .. }), "{other:?}");
    tokio::select! {
        () = telling => panic!("{over}"),
        admitted = timeout(PATIENCE, desk.admitted(next, PATIENCE)) => {
            assert!(admitted.expect("in time").is_ok());
        }
    }
}

#[tokio::test]
async fn the_time_that_redis_is_away_is_no_waiting_for_a_limit() {
    const LONGEST: Duration = Duration::from_secs(3);
    let (bus, server) = redis().await;
    let (desk, _told) = told_on(&bus, "models: {a: {calls_at_once: 1}}", "a");
    let most = first(0, true).most;
    let [calls, next] = ["a1", "a2"].map(|id| desk.claim(&payer_of(id), 0, most));
    let admitted = bus.admit(&desk.ask(&calls)).await.unwrap();
    assert!(matches!(admitted, Admitted::Go), "{admitted:?}");
    server.is_told("CLIENT PAUSE 60000 WRITE").await;
    let mut waiting = Box::pin(desk.admitted(next, LONGEST));
    let away = timeout(LONGEST + Duration::from_secs(1), &mut waiting).await;
    assert!(away.is_err(), "{away:?}");
    server.is_told("CLIENT UNPAUSE").await;
    let ends = async {
        let mut looks = interval(Duration::from_millis(10));
        while desk.waiting.get() == 0 {
            looks.tick().await;
        }
        bus.settle(&desk.ask(&calls), None, Duration::ZERO).await
    };
    let (went, ended) = timeout(PATIENCE, async { tokio::join!(waiting, ends) })
        .await
        .expect("it waits for its limit, and goes");
    assert!(went.is_ok(), "{went:?}");
    assert!(ended.unwrap());
}

/// What a call did not use is there for the one that is made in its place.
#[tokio::test]
async fn the_next_call_of_a_turn_is_claimed_once_the_last_ones_end_is_told() {
    let (bus, _server) = redis().await;
    let yaml = "models: {a: {then: [b]}, b: {}}\nstories: {per_day: {tokens: 1500}}";
    let (desk, told) = told_on(&bus, yaml, "a");
    let payer = payer();
    let claim = desk.claim(&payer, 0, first(0, false).most);
    let admitted = bus.admit(&desk.ask(&claim)).await.unwrap();
    assert!(matches!(admitted, Admitted::Go), "{admitted:?}");
    desk.end(Held::nothing(claim).before_the_next_of(&payer.attempt));
    let leave = Arc::clone(&desk).leave(&payer, first(1, true));
    tokio::select! {
        biased;
        left = timeout(PATIENCE, leave) => {
            let left = left.expect("in time");
            assert!(matches!(left, Ok(Leave::Go(_))), "{left:?}");
        }
        () = Arc::clone(&desk).tell(told, CancellationToken::new()) => panic!("nothing is told any more"),
    }
}

#[tokio::test]
async fn whoever_lost_the_turn_calls_no_other_model_either() {
    let (bus, _server) = redis().await;
    let yaml = "models: {a: {calls_at_once: 1, then: [b]}, b: {}}";
    let (desk, _told) = told_on(&bus, yaml, "a");
    let (lost, mut has_it) = (payer(), payer());
    has_it.attempt = Attempt::new("1-0", 2);
    let calls = Arc::clone(&desk).leave(&has_it, first(0, false)).await;
    assert!(matches!(calls, Ok(Leave::Go(_))), "{calls:?}");
    let left = Arc::clone(&desk).leave(&lost, first(0, false)).await;
    assert_eq!(
        left.map_err(|error| error.class).err(),
        Some(Class::Cancelled)
    );
    // Who finds no room asks it.
    let other = Arc::clone(&desk)
        .leave(&payer_of("a2"), first(0, false))
        .await;
    assert!(matches!(other, Ok(Leave::Next)), "{other:?}");
}

#[test]
fn what_never_fits_into_the_limits_of_a_model_is_told_where_another_one_is_asked() {
    let yaml = "models: {a: {per_day: {tokens: 1099}, then: [b]}, b: {tokens_per_minute: 1099}}
stories: {per_day: {tokens: 1100}}";
    let (desk, payer) = (desk(yaml, "a"), payer());
    let told = [0, 1].map(|place| {
        let claim = desk.claim(&payer, place, first(place, false).most);
        let line = &desk.chain[place];
        claim.too_large((&line.name, line.model.limits()))
    });
    let says = [
        "a call that may take 1100 tokens is more than all of a day's 1099 of model:a",
        "a call of up to 1100 tokens is more than the 1099 that b is granted a minute",
    ];
    assert_eq!(told, says.map(|says| Some(says.to_owned())));
    let claim = desk.claim(
        &payer,
        0,
        Most {
            prompt: 99,
            answer: None,
        },
    );
    assert_eq!(claim.too_large(("a", Limits::default())), None);
}

#[test]
fn a_budget_that_one_call_is_more_than_is_not_called_used_up() {
    let claim = |tokens, cost| Claim {
        place: 0,
        turn: "castle:n1".to_owned(),
        number: 0,
        attempt: "1".into(),
        story: "castle".parse().unwrap(),
        most: Used { tokens, cost },
        budgets: [(Unit::Tokens, 700), (Unit::Cost, 5)]
            .map(|(unit, a_day)| Budget {
                whose: "story:castle".to_owned(),
                unit,
                a_day,
            })
            .to_vec(),
    };
    let until = Duration::from_secs(2 * 3_600 + 60);
    for (claim, place, says) in [
        (
            claim(700, 5),
            0,
            "of a day's 700 tokens of story:castle too few are left: the next one begins in 2 h 1 min",
        ),
        (
            claim(701, 5),
            0,
            "a call that may take 701 tokens is more than all of a day's 700 of story:castle",
        ),
        (
            claim(700, 6),
            1,
            "a call that may take 6 millionths of cost is more than all of a day's 5 of story:castle",
        ),
    ] {
        let error = over(&claim, place, until);
        assert_eq!(error.class, Class::Budget);
        assert!(error.to_string().contains(says), "{error}");
    }
}
