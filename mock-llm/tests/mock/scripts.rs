//! Scripts: which call gets which reply.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Heard, Mock, asking, content};

/// Asks for `event` as `agent`; the status and the text.
async fn ask(mock: &Mock, agent: &str, event: &str, text: &str) -> (u16, String) {
    let asked = mock.chat(&asking(text)).header("x-storyfleet-agent", agent);
    let response = asked.header("x-storyfleet-event", event).send().await;
    let heard = Heard::whole(response.unwrap()).await;
    let answer: Option<Value> = serde_json::from_slice(&heard.body).ok();
    let text = answer.filter(|_| heard.status == 200);
    let text = text.map(|answer| content(&answer).to_owned());
    (heard.status.as_u16(), text.unwrap_or_default())
}

#[tokio::test]
async fn the_first_rule_that_matches_replies() {
    let mock = Mock::scripted(
        r#"
rules:
  - when: {agent: dialogue, regex: "(?i)dragon"}
    reply: {text: "There are no dragons."}
  - when: {regex: dragon, within: prompt}
    reply: {json: {decision: flag, categories: [dragons]}}
  - when: {agent: moderator}
    reply: {fault: error_503}
"#,
    )
    .await;
    let told = ask(&mock, "dialogue", "e", "A DRAGON!").await;
    assert_eq!(told, (200, "There are no dragons.".into()));
    let told = ask(&mock, "moderator", "e", "a dragon").await;
    assert_eq!(
        told,
        (
            200,
            r#"{"categories":["dragons"],"decision":"flag"}"#.into()
        )
    );
    assert_eq!(ask(&mock, "moderator", "e", "a mouse").await.0, 503);
    assert!(ask(&mock, "dialogue", "e", "a mouse").await.1.len() > 20);
}

#[tokio::test]
async fn the_prompt_and_the_last_message_are_told_apart() {
    let mock = Mock::scripted(
        "rules:
  - when: {regex: dragon}
    reply: {text: last}
  - when: {regex: dragon, within: prompt}
    reply: {text: before}",
    )
    .await;
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a dragon"}, {"role": "user", "content": "a mouse"}]});
    assert_eq!(content(&mock.answer(&body).await), "before");
    assert_eq!(content(&mock.answer(&asking("a dragon")).await), "last");
}

#[tokio::test]
async fn a_first_try_fails_and_its_second_succeeds_in_any_order() {
    let mock = Mock::scripted("rules: [{when: {attempt: 1}, reply: {fault: error_500}}]").await;
    let twice = async |n: u32| {
        let event = format!("event {n}");
        let first = ask(&mock, "narrator", &event, "go").await.0;
        (first, ask(&mock, "narrator", &event, "go").await.0)
    };
    let statuses = join_all((0..50).map(twice)).await;
    assert!(
        statuses.iter().all(|pair| *pair == (500, 200)),
        "{statuses:?}"
    );
}

#[tokio::test]
async fn without_an_event_the_body_counts_the_tries() {
    let mock = Mock::scripted("rules: [{when: {attempt: [1, 3]}, reply: {text: odd}}]").await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(ask(&mock, "", "", "go").await.1 == "odd");
    }
    assert_eq!(told, [true, false, true, false]);
    assert_eq!(ask(&mock, "", "", "another body").await.1, "odd");
}

#[tokio::test]
async fn nth_counts_the_calls_that_match() {
    let mock = Mock::scripted("rules: [{when: {agent: a, nth: 2}, reply: {text: second}}]").await;
    let mut told = Vec::new();
    for agent in ["a", "b", "b", "a", "a"] {
        told.push(ask(&mock, agent, "e", "go").await.1 == "second");
    }
    assert_eq!(told, [false, false, false, true, false]);
}

#[tokio::test]
async fn probability_hits_its_share_and_the_same_calls_each_time() {
    let yaml = "rules: [{when: {probability: 0.3}, reply: {text: hit}}]";
    let hits = async || {
        let mock = Mock::scripted(yaml).await;
        let events: Vec<_> = (0..200).map(|n| format!("event {n}")).collect();
        let told = join_all(events.iter().map(|event| ask(&mock, "a", event, "go"))).await;
        told.into_iter()
            .map(|(_, text)| text == "hit")
            .collect::<Vec<_>>()
    };
    let first = hits().await;
    let share = first.iter().filter(|hit| **hit).count();
    assert!((40..=80).contains(&share), "{share} of 200");
    assert_eq!(first, hits().await);
}

#[tokio::test]
async fn chaos_fails_its_share_and_a_retry_rolls_anew() {
    let mock = Mock::scripted("chaos: {rate: 0.5, faults: [error_500, error_529]}").await;
    let tries = async |n: u32| {
        let event = format!("event {n}");
        let first = ask(&mock, "a", &event, "go").await.0;
        (first, ask(&mock, "a", &event, "go").await.0)
    };
    let statuses = join_all((0..200).map(tries)).await;
    let count = |pair: (bool, bool)| {
        let same = |seen: &&(u16, u16)| (seen.0 == 200, seen.1 == 200) == pair;
        statuses.iter().filter(same).count()
    };
    for pair in [(true, true), (true, false), (false, true), (false, false)] {
        assert!(
            (25..=80).contains(&count(pair)),
            "{pair:?}: {}",
            count(pair)
        );
    }
    let all = |status| statuses.iter().any(|pair| pair.0 == status);
    assert!(all(500) && all(529));
}

#[tokio::test]
async fn a_text_may_be_told_by_a_fault() {
    let yaml = "rules: [{reply: {text: one two three four, fault: eof(2)}}]";
    let mock = Mock::scripted(yaml).await;
    let mut body = asking("go");
    body["stream"] = true.into();
    let heard = Heard::whole(mock.chat(&body).send().await.unwrap()).await;
    assert_eq!((heard.text().as_str(), heard.is_done()), ("one two", false));
}

#[tokio::test]
async fn rules_with_words_are_for_chats_and_faults_for_all() {
    let mock = Mock::scripted(
        "rules:
  - reply: {text: words}
  - when: {endpoint: moderations, attempt: 1}
    reply: {fault: rate_limit}",
    )
    .await;
    let asked = || {
        mock.post("/v1/moderations", &json!({"input": "hello"}))
            .send()
    };
    assert_eq!(asked().await.unwrap().status(), 429);
    assert_eq!(asked().await.unwrap().status(), 200);
    assert_eq!(ask(&mock, "a", "e", "go").await, (200, "words".into()));
}

#[tokio::test]
async fn a_header_outranks_the_script() {
    let mock = Mock::scripted("rules: [{reply: {fault: error_500}}]").await;
    let asked = mock.chat(&asking("go")).header("x-mock-fault", "none");
    assert_eq!(asked.send().await.unwrap().status(), 200);
    let asked = mock.chat(&asking("go")).header("x-mock-fault", "error_503");
    assert_eq!(asked.send().await.unwrap().status(), 503);
}

#[test]
fn what_is_no_script_says_where_and_what() {
    let told = |yaml: &str| {
        let wrong = yaml.parse::<mock_llm::Scenario>().unwrap_err();
        format!("{}: {wrong}", wrong.line())
    };
    let wrong = [
        (
            "rules:\n- when: {agnet: a}\n  reply: {text: x}",
            "2: ",
            "agnet",
        ),
        (
            "rules:\n- reply:\n    text: x\n    fault: stal",
            "4: ",
            "no fault is called `stal`",
        ),
        (
            "rules:\n- when:\n    regex: '('\n  reply: {text: x}",
            "3: ",
            "unclosed group",
        ),
        (
            "rules:\n- when: {probability: 2}\n  reply: {text: x}",
            "2: ",
            "no probability",
        ),
        ("rules:\n- reply: {text: x, json: 1}", "2: ", "not both"),
        ("rules:\n- reply: {}", "2: ", "needs `text`"),
        ("rules:\n- when: {agent: a}", "2: ", "reply"),
        ("limits: {requests: -1}", "1: ", "invalid u32"),
        ("rules: [", "1: ", ""),
    ];
    for (yaml, line, what) in wrong {
        let told = told(yaml);
        assert!(
            told.starts_with(line) && told.contains(what),
            "{yaml}\n{told}"
        );
    }
}
