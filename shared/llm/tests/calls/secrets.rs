//! What must not be seen: the key anywhere, prompts and answers in logs.

use std::io::Write;
use std::sync::{Arc, Mutex};

use llm::{Class, Client, Settings};
use tracing_subscriber::EnvFilter;

use crate::provider::{Answer, Provider};
use crate::{DONE, STOP, request, settings};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn with_key(url: &str) -> Client {
    Client::new(Settings {
        api_key: Some("sk-secret".into()),
        ..settings(url)
    })
    .unwrap()
}

#[tokio::test]
async fn a_provider_that_repeats_the_key_does_not_spread_it() {
    let provider = Provider::start(|_| {
        Answer::plain(
            "401 Unauthorized",
            "",
            r#"{"error":{"message":"Incorrect key: sk-secret\n","code":"invalid_api_key"}}"#,
        )
    });
    let client = with_key(&provider.await.url);
    let error = client.answer(&request()).await.unwrap_err();
    assert_eq!(error.class, Class::Auth);
    assert_eq!(
        error.message,
        "the provider answered 401 (is the API key set, and right?): Incorrect key: [key]"
    );
    assert!(!format!("{error:?} {client:?} {:?}", client.stream(&request())).contains("sk-secret"));
}

#[tokio::test]
async fn logs_tell_of_tries_but_not_of_key_prompt_or_answer() {
    let log = Log::default();
    let writer = log.clone();
    let filter = EnvFilter::new(format!("trace,{}", llm::QUIET));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // For all threads: one of another test that met an event first would switch it off for this one.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let spoken = r#"{"choices":[{"delta":{"content":"dragon"}}]}"#;
    let provider = Provider::start(move |n| match n {
        0 => Answer::events(&[spoken, "{dragon"]).ended(),
        _ => Answer::events(&[spoken, STOP, DONE]).ended(),
    });
    with_key(&provider.await.url)
        .answer(&request())
        .await
        .unwrap();

    let text = log.text();
    assert!(
        text.contains("a try failed")
            && text.contains("class=\"provider\"")
            && text.contains("the model answered"),
        "{text}"
    );
    for secret in ["sk-secret", "dragon", "open the door"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}
