//! `/admin`: what is seen of the calls, and changing the scenario under way. Also the limits, from both sides.

use serde_json::{Value, json};

use crate::harness::{Mock, asking, streaming};

#[tokio::test]
async fn calls_are_counted_by_agent_event_and_outcome() {
    let mock = Mock::plain().await;
    let ask = async |event: &str, fault: &str| {
        let asked = mock
            .chat(&asking("go"))
            .header("x-storyfleet-agent", "narrator");
        let asked = asked.header("x-storyfleet-event", event);
        asked.header("x-mock-fault", fault).send().await.unwrap();
    };
    ask("e1", "error_500").await;
    ask("e1", "none").await;
    ask("e2", "none").await;
    mock.post("/v1/moderations", &json!({"input": 5}))
        .send()
        .await
        .unwrap();
    let report = mock.calls(|calls| calls["in_flight"] == 0).await;
    let calls = &report["calls"];
    assert_eq!(calls["total"], 4);
    let outcomes = json!({"error_500": 1, "invalid_request_error": 1, "ok": 2});
    assert_eq!(calls["outcomes"], outcomes);
    assert_eq!(
        calls["agents"]["narrator"],
        json!({"error_500": 1, "ok": 2})
    );
    let row = json!({"endpoint": "chat", "agent": "narrator", "event": "e1", "attempts": 2,
        "outcomes": {"error_500": 1, "ok": 1}});
    assert_eq!(calls["events"][0], row);
    let one = mock.get("/admin/calls?agent=narrator&event=e2").await;
    assert_eq!(one["calls"]["events"].as_array().unwrap().len(), 1);
    assert_eq!(one["calls"]["events"][0]["event"], "e2");
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_a_cancelled_call() {
    let mock = Mock::plain().await;
    let asked = mock.chat(&streaming("go")).header("x-mock-itl", "1m");
    let mut response = asked.send().await.unwrap();
    response.chunk().await.unwrap();
    mock.calls(|calls| calls["in_flight"] == 1).await;
    drop(response);
    let report = mock.calls(|calls| calls["in_flight"] == 0).await;
    assert_eq!(report["calls"]["outcomes"], json!({"cancelled": 1}));
    let asked = mock.chat(&asking("go")).header("x-mock-ttft", "1m").send();
    let waiting = tokio::time::timeout(crate::harness::SILENCE, asked).await;
    assert!(waiting.is_err());
    mock.calls(|calls| calls["outcomes"] == json!({"cancelled": 2}))
        .await;
}

#[tokio::test]
async fn the_scenario_changes_and_comes_back() {
    let mock = Mock::scripted("rules: [{when: {nth: 1}, reply: {text: first}}]").await;
    let url = format!("{}/admin/scenario", mock.base);
    let text = async || {
        let answer = mock.answer(&asking("go")).await;
        crate::harness::content(&answer).to_owned()
    };
    assert_eq!(text().await, "first");
    let set = mock
        .client
        .post(&url)
        .body("rules: [{reply: {text: changed}}]");
    let set: Value = set.send().await.unwrap().json().await.unwrap();
    assert_eq!(set["rules"], 1);
    assert_eq!(text().await, "changed");
    let wrong = mock
        .client
        .post(&url)
        .body("rules:\n- {}")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 400);
    let wrong: Value = wrong.json().await.unwrap();
    let message = wrong["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("scenario:2: "), "{message}");
    assert_eq!(text().await, "changed");
    let reset = mock
        .client
        .post(format!("{}/admin/reset", mock.base))
        .send()
        .await;
    assert_eq!(reset.unwrap().status(), 204);
    assert_eq!(text().await, "first", "the rules count anew");
    assert_eq!(
        mock.calls(|calls| calls["in_flight"] == 0).await["calls"]["total"],
        1
    );
}

#[tokio::test]
async fn beyond_the_requests_of_a_minute_calls_are_refused_and_counted() {
    let mock = Mock::scripted("limits: {requests: 3}").await;
    for _ in 0..3 {
        mock.answer(&asking("go")).await;
    }
    assert_eq!(
        mock.get("/admin/calls").await["overshoot"],
        json!({"requests": 0, "tokens": 0})
    );
    let refused = mock.chat(&asking("go")).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=20).contains(&wait), "{wait} s");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(mock.get("/admin/calls").await["overshoot"]["requests"], 1);
}

#[tokio::test]
async fn beyond_the_tokens_of_a_minute_calls_are_refused_and_counted() {
    let usage = Mock::plain().await.answer(&asking("go")).await["usage"].take();
    let cost = usage["total_tokens"].as_u64().unwrap();
    let mock = Mock::scripted(&format!("limits: {{tokens: {}}}", cost * 2 + cost / 2)).await;
    for _ in 0..2 {
        mock.answer(&asking("go")).await;
    }
    let refused = mock.chat(&asking("go")).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let overshoot = &mock.get("/admin/calls").await["overshoot"];
    assert_eq!(overshoot, &json!({"requests": 1, "tokens": cost}));
}
