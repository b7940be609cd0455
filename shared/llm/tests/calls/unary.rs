//! Calls that do not stream: models and moderation.

use llm::{Class, Labels, Moderation};

use crate::client;
use crate::provider::{Answer, Provider};

#[tokio::test]
async fn the_models_are_listed() {
    let provider = Provider::start(|_| {
        Answer::json(r#"{"object":"list","data":[{"id":"a","object":"model"},{"id":"b"}]}"#)
    })
    .await;
    assert_eq!(client(&provider.url).models(0).await.unwrap(), ["a", "b"]);
    assert!(provider.requests().await[0].starts_with("GET /v1/models HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_text_is_judged_after_a_failure() {
    let provider = Provider::start(|n| match n {
        0 => Answer::plain("503 Busy", "", "busy"),
        _ => Answer::json(
            r#"{"results":[{"flagged":true,"categories":{"violence":true,"hate":false}}]}"#,
        ),
    });
    let provider = provider.await;
    let labels = Labels {
        agent: "moderator".into(),
        ..Labels::default()
    };
    let told = client(&provider.url)
        .moderate(Some("omni"), "a blade", &labels)
        .await
        .unwrap();
    assert_eq!(
        told,
        Moderation {
            flagged: true,
            categories: vec!["violence".into()]
        }
    );
    let requests = provider.requests().await;
    assert_eq!(requests.len(), 2);
    assert!(requests[1].contains("\r\nx-storyfleet-agent: moderator\r\n"));
    assert!(requests[1].ends_with(r#"{"model":"omni","input":"a blade"}"#));
}

#[tokio::test]
async fn answers_that_are_none_have_a_class() {
    for (answer, class) in [
        (Answer::plain as fn(&str, &str, &str) -> Answer, Class::Auth),
        (|_, _, _| Answer::json("{}"), Class::Provider),
        (
            |_, _, _| Answer::plain("200 OK", "", "<html>"),
            Class::Provider,
        ),
        (
            |_, _, _| Answer::plain("200 OK", "", "{").cut(),
            Class::Provider,
        ),
        (|_, _, _| Answer::nothing().cut(), Class::Truncated),
        (|_, _, _| Answer::nothing().hangs(), Class::FirstToken),
    ] {
        let provider = Provider::start(move |_| answer("401 No", "", "")).await;
        assert_eq!(
            client(&provider.url).models(0).await.unwrap_err().class,
            class
        );
    }
}
