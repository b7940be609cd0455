//! Keys from a server: rotation, outages, and what may be asked of it how often.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gateway::auth::{Settings, Verifier};
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time;
use tracing_subscriber::fmt::MakeWriter;

use crate::issuer::{Answer, Issuer};
use crate::signer::{Signer, claims, jwks};
use crate::{class, verifier};

const DOWN: Answer = Answer::Status(StatusCode::SERVICE_UNAVAILABLE);

fn keys(signers: &[&Signer]) -> Answer {
    Answer::Text(jwks(signers))
}

fn signer(kid: &str) -> Signer {
    Signer::new("ES256", kid)
}

/// Lets that much time pass. (Not while something is awaited from the network: paused time would run out then.)
async fn pass(span: Duration) {
    time::pause();
    time::advance(span).await;
    time::resume();
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_but_not_sooner_than_10_seconds() {
    let (old, new) = (signer("old"), signer("new"));
    let issuer = Issuer::start(keys(&[&old])).await;
    let verifier = verifier(issuer.settings());
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    issuer.answers(keys(&[&old, &new]));
    pass(8 * SECOND).await;
    for _ in 0..50 {
        assert_eq!(class(&verifier, &new.token(&claims())).await, "key");
    }
    assert_eq!(issuer.asked(), 1);
    pass(2 * SECOND).await;
    assert_eq!(class(&verifier, &new.token(&claims())).await, "good");
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn it_is_ready_once_the_keys_were_read_and_asks_for_them_by_itself() {
    let signer = signer("a");
    let issuer = Issuer::start(DOWN).await;
    let verifier = verifier(issuer.settings());
    assert!(!verifier.is_ready());
    issuer.wait_until_asked(1).await;
    issuer.answers(keys(&[&signer]));
    pass(8 * SECOND).await;
    assert!(!verifier.is_ready());
    assert_eq!(issuer.asked(), 1);
    pass(2 * SECOND).await;
    assert!(!verifier.is_ready(), "it is asked for now");
    issuer.wait_until_asked(2).await;
    // The token waits for the answer to what was asked already.
    assert_eq!(class(&verifier, &signer.token(&claims())).await, "good");
    assert!(verifier.is_ready());
    issuer.answers(DOWN);
    pass(600 * SECOND).await;
    assert!(verifier.is_ready(), "the last ones stay in use");
}

#[tokio::test]
async fn a_key_that_was_withdrawn_is_good_until_keys_are_too_old() {
    let (old, new) = (signer("old"), signer("new"));
    let issuer = Issuer::start(keys(&[&old])).await;
    let verifier = verifier(issuer.settings());
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    issuer.answers(keys(&[&new]));
    pass(590 * SECOND).await;
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    assert_eq!(issuer.asked(), 1);
    pass(10 * SECOND).await;
    assert_eq!(class(&verifier, &old.token(&claims())).await, "key");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn while_the_server_is_away_its_keys_stay_good_and_nobody_waits() {
    let (old, new) = (signer("old"), signer("new"));
    let issuer = Issuer::start(keys(&[&old])).await;
    let verifier = verifier(issuer.settings());
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    issuer.answers(DOWN);
    pass(600 * SECOND).await;
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    assert_eq!(class(&verifier, &new.token(&claims())).await, "unavailable");
    assert_eq!(issuer.asked(), 2);

    // It hangs now: whoever's key is known is let in all the same, at once.
    issuer.answers(Answer::Held);
    pass(10 * SECOND).await;
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    issuer.wait_until_asked(3).await;
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    let both = keys(&[&old, &new]);
    let token = new.token(&claims());
    let (found, ()) = tokio::join!(class(&verifier, &token), async { issuer.answers(both) });
    assert_eq!((found, issuer.asked()), ("good", 3));
}

#[tokio::test]
async fn whose_key_is_known_waits_a_moment_for_a_server_that_hangs_and_no_longer() {
    let (old, new) = (signer("old"), signer("new"));
    let issuer = Issuer::start(keys(&[&old])).await;
    let verifier = verifier(issuer.settings());
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    issuer.answers(Answer::Held);
    pass(600 * SECOND).await;
    let begun = time::Instant::now();
    assert_eq!(class(&verifier, &old.token(&claims())).await, "good");
    let took = begun.elapsed();
    assert!(took < 3 * SECOND, "{took:?}");
    // What it says in the end counts.
    issuer.answers(keys(&[&new]));
    assert_eq!(class(&verifier, &new.token(&claims())).await, "good");
    assert_eq!(class(&verifier, &old.token(&claims())).await, "key");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_waited_for() {
    let key = signer("key");
    let issuer = Issuer::start(DOWN).await;
    let verifier = verifier(issuer.settings());
    let refusal = verifier.verify(&key.token(&claims())).await.unwrap_err();
    assert!(refusal.is_temporary(), "{refusal}");
    issuer.answers(keys(&[&key]));
    assert_eq!(class(&verifier, &key.token(&claims())).await, "unavailable");
    pass(10 * SECOND).await;
    assert_eq!(class(&verifier, &key.token(&claims())).await, "good");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_herd_is_one_fetch() {
    let key = signer("key");
    let issuer = Issuer::start(Answer::Held).await;
    let verifier = Arc::new(verifier(issuer.settings()));
    let mut herd = JoinSet::new();
    for _ in 0..100 {
        let (verifier, token) = (Arc::clone(&verifier), key.token(&claims()));
        herd.spawn(async move { class(&verifier, &token).await });
    }
    issuer.wait_until_asked(1).await;
    issuer.answers(keys(&[&key]));
    assert_eq!(herd.join_all().await, ["good"; 100]);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn who_hangs_up_ends_nobodys_fetch() {
    let key = signer("key");
    let issuer = Issuer::start(Answer::Held).await;
    let verifier = Arc::new(verifier(issuer.settings()));
    let mut gone = JoinSet::new();
    let (early, token) = (Arc::clone(&verifier), key.token(&claims()));
    gone.spawn(async move { class(&early, &token).await });
    issuer.wait_until_asked(1).await;
    gone.shutdown().await;
    let token = key.token(&claims());
    let (found, ()) = tokio::join!(class(&verifier, &token), async {
        issuer.answers(keys(&[&key]));
    });
    assert_eq!((found, issuer.asked()), ("good", 1));
}

#[tokio::test]
async fn a_fetch_that_takes_long_is_joined_and_not_doubled() {
    let key = signer("key");
    let issuer = Issuer::start(Answer::Held).await;
    let mut settings = issuer.settings();
    settings.jwks_timeout = 60 * SECOND;
    let verifier = Arc::new(verifier(settings));
    let mut waiting = JoinSet::new();
    let mut ask = || {
        let (verifier, token) = (Arc::clone(&verifier), key.token(&claims()));
        waiting.spawn(async move { class(&verifier, &token).await });
    };
    ask();
    issuer.wait_until_asked(1).await;
    pass(11 * SECOND).await;
    ask();
    // Those asked now stand behind the fetch that runs, or have begun another.
    tokio::task::yield_now().await;
    issuer.answers(keys(&[&key]));
    assert_eq!(waiting.join_all().await, ["good"; 2]);
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_stop_ends_a_fetch_and_frees_who_waits() {
    let key = signer("key");
    let issuer = Issuer::start(Answer::Held).await;
    let settings = issuer.settings();
    let stop = settings.stop.clone();
    let verifier = verifier(settings);
    let token = key.token(&claims());
    let (found, ()) = tokio::join!(class(&verifier, &token), async {
        issuer.wait_until_asked(1).await;
        stop.cancel();
    });
    assert_eq!(found, "unavailable");
}

/// What becomes of a good token when its keys are answered so.
async fn answered(answer: Answer, key: &Signer, change: fn(&mut Settings)) -> &'static str {
    let issuer = Issuer::start(answer).await;
    let mut settings = issuer.settings();
    change(&mut settings);
    class(&Verifier::new(settings).unwrap(), &key.token(&claims())).await
}

#[tokio::test]
async fn an_answer_has_at_most_256_kib() {
    let key = signer("key");
    let text = jwks(&[&key]);
    let long = |bytes: usize| Answer::Text(format!("{text}{}", " ".repeat(bytes - text.len())));
    assert_eq!(answered(long(256 * 1024), &key, |_| ()).await, "good");
    assert_eq!(
        answered(long(256 * 1024 + 1), &key, |_| ()).await,
        "unavailable"
    );
    assert_eq!(
        answered(long(64 * 1024 * 1024), &key, |_| ()).await,
        "unavailable"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_given_up() {
    let key = signer("key");
    let short = |settings: &mut Settings| settings.jwks_timeout = Duration::from_millis(300);
    for answer in [Answer::Stalled, Answer::Held] {
        let begun = time::Instant::now();
        assert_eq!(answered(answer, &key, short).await, "unavailable");
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
    assert_eq!(Settings::new("a", "i").jwks_timeout, 5 * SECOND);
}

#[tokio::test]
async fn what_is_no_jwks_gives_no_keys() {
    let key = signer("key");
    for text in ["", "<html>", "[]", r#"{"keys": 1}"#] {
        let found = answered(Answer::Text(text.to_owned()), &key, |_| ()).await;
        assert_eq!(found, "unavailable", "{text}");
    }
    // None is an answer too: all were withdrawn.
    let none = Answer::Text(r#"{"keys": []}"#.to_owned());
    assert_eq!(answered(none, &key, |_| ()).await, "key");
}

#[tokio::test]
async fn a_redirect_is_followed_three_times_and_never_off_this_machine() {
    let key = signer("key");
    let text = jwks(&[&key]);
    for (answer, becomes) in [
        (Answer::Redirected(3, text.clone()), "good"),
        (Answer::Redirected(4, text.clone()), "unavailable"),
        (Answer::Elsewhere(text), "unavailable"),
    ] {
        assert_eq!(answered(answer, &key, |_| ()).await, becomes);
    }
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logs {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn logs_tell_an_outage_once_and_nothing_of_a_token_or_a_query() {
    let logs = Logs::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("gateway=trace")
        .with_ansi(false)
        .with_writer(logs.clone());
    let _until_the_end = tracing::subscriber::set_default(subscriber.finish());
    let key = signer("key");
    let issuer = Issuer::start(DOWN).await;
    let verifier = verifier(issuer.settings());
    let token = key.token(&claims());
    for _ in 0..3 {
        assert_eq!(class(&verifier, &token).await, "unavailable");
        pass(10 * SECOND).await;
    }
    issuer.answers(keys(&[&key]));
    assert_eq!(class(&verifier, &token).await, "good");
    let told = String::from_utf8(logs.0.lock().unwrap().clone()).unwrap();
    assert_eq!(told.matches("cannot be read").count(), 1, "{told}");
    assert_eq!(told.matches("503").count(), 1, "{told}");
    assert_eq!(told.matches("read again").count(), 1, "{told}");
    for secret in [&*token, "s3cr3t", token.rsplit_once('.').unwrap().1] {
        assert!(!told.contains(secret), "{told}");
    }
}
