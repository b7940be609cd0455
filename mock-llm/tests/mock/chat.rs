//! Chat, moderations and models, as OpenAI's clients expect them.

use futures::future::join_all;
use mock_llm::Options;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Heard, Mock, asking, content, streaming};

#[tokio::test]
async fn an_answer_is_prose_with_its_usage() {
    let mock = Mock::plain().await;
    let answer = mock.answer(&asking("Tell me of the castle.")).await;
    let words = content(&answer).split_whitespace().count();
    assert!((40..=120).contains(&words), "{words} words");
    let usage = &answer["usage"];
    let (prompt, completion) = (&usage["prompt_tokens"], &usage["completion_tokens"]);
    assert_eq!(
        (prompt, answer["object"].as_str()),
        (&json!(10), Some("chat.completion"))
    );
    let total = prompt.as_u64().unwrap() + completion.as_u64().unwrap();
    assert_eq!(usage["total_tokens"], total);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_stream_tells_token_by_token_and_its_usage_last() {
    let mock = Mock::plain().await;
    let response = mock.chat(&streaming("go")).send().await.unwrap();
    let heard = Heard::whole(response).await;
    assert!(
        heard
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream")
    );
    assert!(heard.is_done());
    let frames = heard.frames();
    assert_eq!(frames[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, others) = frames.split_last().unwrap();
    assert_eq!(
        (&usage["choices"], others.len()),
        (&json!([]), frames.len() - 1)
    );
    assert!(others.iter().all(|frame| frame["usage"].is_null()));
    let tokens = frames.len() - 3;
    assert_eq!(usage["usage"]["completion_tokens"], tokens);
    assert_eq!(
        others.last().unwrap()["choices"][0]["finish_reason"],
        "stop"
    );
    assert!(heard.text().split_whitespace().count() >= 40);
}

#[tokio::test]
async fn usage_is_not_told_unasked() {
    let mut body = streaming("go");
    body["stream_options"].take();
    let response = Mock::plain().await.chat(&body).send().await.unwrap();
    let heard = Heard::whole(response).await;
    assert!(heard.is_done());
    assert!(
        heard
            .frames()
            .iter()
            .all(|frame| frame.get("usage").is_none())
    );
}

#[tokio::test]
async fn the_same_bytes_get_the_same_words_whatever_else_is_asked() {
    let (alone, crowded) = (Mock::plain().await, Mock::plain().await);
    let bodies: Vec<_> = (0..40).map(|n| asking(&format!("Beat {n}"))).collect();
    let mut told = Vec::new();
    for body in &bodies {
        told.push(alone.answer(body).await);
    }
    let backwards = bodies.iter().rev().chain(&bodies);
    let answers = join_all(backwards.map(|body| crowded.answer(body))).await;
    let expected: Vec<_> = told.iter().rev().chain(&told).cloned().collect();
    assert_eq!(answers, expected);
    let distinct: std::collections::BTreeSet<_> = told.iter().map(content).collect();
    assert_eq!(distinct.len(), told.len());
}

#[tokio::test]
async fn another_seed_tells_another_story() {
    let mock = Mock::plain().await;
    let other = Mock::start(Options {
        seed: 7,
        ..Options::default()
    })
    .await;
    let body = asking("go");
    let (first, second) = (mock.answer(&body).await, other.answer(&body).await);
    assert_ne!(content(&first), content(&second));
    let asked = mock.chat(&body).header("x-mock-seed", "7").send().await;
    let asked: Value = asked.unwrap().json().await.unwrap();
    assert_eq!(content(&asked), content(&second));
}

#[tokio::test]
async fn max_tokens_and_stop_cut_the_answer() {
    let mock = Mock::plain().await;
    for limit in ["max_tokens", "max_completion_tokens"] {
        let mut body = asking("go");
        body[limit] = 7.into();
        let answer = mock.answer(&body).await;
        assert_eq!(answer["usage"]["completion_tokens"], 7);
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
    }
    let mut body = asking("go");
    body["stop"] = json!(["e", "…"]);
    let answer = mock.answer(&body).await;
    assert!(!content(&answer).contains('e'));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn each_agent_is_answered_in_its_own_form() {
    let mock = Mock::plain().await;
    let body = json!({"model": "mock", "messages": [
        {"role": "system", "content": "Characters:\n- Edda: a ferryman"},
        {"role": "user", "content": "I cross, dubiousword."}]});
    let tell = async |agent: &'static str| {
        let asked = mock.chat(&body).header("x-storyfleet-agent", agent);
        let answer: Value = asked.send().await.unwrap().json().await.unwrap();
        content(&answer).to_owned()
    };
    let beat = tell("narrator").await;
    let (_, trailer) = beat.split_once("\n@@@\n").unwrap();
    let trailer: Value = serde_json::from_str(trailer).unwrap();
    assert!(
        trailer["speak"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["character"] == "Edda")
    );
    let speech = tell("dialogue").await;
    assert!(!speech.contains(['"', '\n', ':']), "{speech}");
    let verdict: Value = serde_json::from_str(&tell("moderator").await).unwrap();
    assert_eq!(
        (&verdict["decision"], &verdict["categories"]),
        (&json!("flag"), &json!(["violence"]))
    );
}

#[tokio::test]
async fn a_json_schema_is_kept() {
    let mock = Mock::plain().await;
    let mut body = asking("A forbiddenword.");
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "verdict", "strict": true,
        "schema": {"type": "object", "required": ["decision", "categories", "score"], "properties": {
            "decision": {"type": "string", "enum": ["allow", "flag", "block"]},
            "categories": {"type": "array", "items": {"type": "string", "enum": ["violence", "hate"]}},
            "score": {"type": "number", "minimum": 0, "maximum": 1}}}}});
    let asked = mock.chat(&body).header("x-storyfleet-agent", "moderator");
    let answer: Value = asked.send().await.unwrap().json().await.unwrap();
    let verdict: Value = serde_json::from_str(content(&answer)).unwrap();
    assert_eq!(
        (&verdict["decision"], &verdict["categories"]),
        (&json!("block"), &json!(["violence"]))
    );
    assert!((0.0..=1.0).contains(&verdict["score"].as_f64().unwrap()));
}

#[tokio::test]
async fn moderations_judge_each_text() {
    let mock = Mock::plain().await;
    let ask = async |input: Value| -> Value {
        let asked = mock.post("/v1/moderations", &json!({"input": input}));
        asked.send().await.unwrap().json().await.unwrap()
    };
    let one = ask(json!("a forbiddenword here")).await;
    let result = &one["results"][0];
    assert_eq!(
        (&result["flagged"], &result["categories"]["violence"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(result["categories"].as_object().unwrap().len(), 13);
    assert_eq!(result["category_scores"].as_object().unwrap().len(), 13);
    let many = ask(json!(["hello", {"type": "text", "text": "forbiddenword"}])).await;
    let flagged: Vec<_> = (0..2)
        .map(|at| many["results"][at]["flagged"].as_bool())
        .collect();
    assert_eq!(flagged, [Some(false), Some(true)]);
}

#[tokio::test]
async fn models_are_listed_and_unknown_ones_are_missed() {
    let mock = Mock::scripted("models: [mock, mock-large]").await;
    let list = mock.get("/v1/models").await;
    assert_eq!(list["data"][1]["id"], "mock-large");
    assert_eq!(mock.get("/v1/models/mock").await["object"], "model");
    let mut body = asking("go");
    body["model"] = "gpt-9".into();
    let refused = mock.chat(&body).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    assert_eq!(error(refused).await["code"], "model_not_found");
    assert_eq!(
        mock.get("/v1/models/gpt-9").await["error"]["param"],
        "model"
    );
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_the_envelope() {
    let mock = Mock::plain().await;
    let told = async |body: &'static str| {
        let url = format!("{}/v1/chat/completions", mock.base);
        let refused = mock.client.post(url).body(body).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        error(refused).await
    };
    assert_eq!(
        told(r#"{"messages":[{"role":"user"}]}"#).await["param"],
        "model"
    );
    assert_eq!(told(r#"{"model":"m"}"#).await["param"], "messages");
    assert_eq!(
        told(r#"{"model":"m","messages":[{"role":"user"}],"n":2}"#).await["param"],
        "n"
    );
    for body in ["", "{", "[]", "\u{0}", r#"{"model":"m","messages":5}"#] {
        let message = told(body).await["message"].to_string();
        assert!(message.contains("could not parse"), "{message}");
    }
}

#[tokio::test]
async fn strange_paths_methods_and_sizes_are_refused_in_the_envelope() {
    let mock = Mock::plain().await;
    let url = |path: &str| format!("{}{path}", mock.base);
    let missing = mock.client.get(url("/v1/nowhere")).send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        error(missing).await["message"],
        "Invalid URL (GET /v1/nowhere)"
    );
    let wrong = mock
        .client
        .get(url("/v1/chat/completions"))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(error(wrong).await["type"], "invalid_request_error");
    let huge = mock
        .chat(&asking(&"x".repeat(9 << 20)))
        .send()
        .await
        .unwrap();
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(error(huge).await["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_key_opens_the_door_and_no_other() {
    let mock = Mock::start(Options {
        api_key: Some("sk-right".into()),
        ..Options::default()
    })
    .await;
    let body = asking("go");
    let ask = async |key: Option<&str>| {
        let asked = mock.chat(&body);
        let asked = match key {
            Some(key) => asked.bearer_auth(key),
            None => asked,
        };
        asked.send().await.unwrap()
    };
    assert_eq!(ask(Some("sk-right")).await.status(), StatusCode::OK);
    for key in [None, Some("sk-wrong"), Some("")] {
        let refused = ask(key).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(error(refused).await["code"], "invalid_api_key");
    }
    assert_eq!(
        mock.get("/v1/models").await["error"]["code"],
        "invalid_api_key"
    );
}

async fn error(response: reqwest::Response) -> Value {
    let mut body: Value = response.json().await.unwrap();
    body["error"].take()
}
