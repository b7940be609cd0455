//! The HTTP API: pages, bodies, keys.

use gateway::auth::Role;
use serde_json::{Value, json};
use system_tests::edge::Person;

use super::Edge;

#[tokio::test]
async fn a_history_is_read_by_pages() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    for n in 1..=7 {
        edge.act("mira", &format!("step {n}")).await?;
    }
    let (mut after, mut texts) = (0, Vec::new());
    loop {
        let page: Value = edge
            .page("oren", &format!("?after={after}&limit=3"))
            .await?
            .json()
            .await?;
        for placed in page["events"].as_array().into_iter().flatten() {
            texts.push(
                placed["event"]["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            );
            assert_eq!(placed["seq"].as_u64(), u64::try_from(texts.len()).ok());
        }
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    let expected: Vec<String> = (1..=7).map(|n| format!("step {n}")).collect();
    assert_eq!(texts, expected);
    for (query, status) in [
        ("?limit=0", 400),
        ("?limit=501", 400),
        ("?limit=500", 200),
        ("?after=x", 400),
        ("?after=-1", 400),
        ("?after=99", 200),
    ] {
        let response = edge.page("oren", query).await?;
        assert_eq!(response.status(), status, "{query}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_page_of_long_events_ends_early_and_the_next_goes_on() -> anyhow::Result<()> {
    const LONG: usize = 60 * 1_024;
    let edge = Edge::start(&[]).await?;
    for n in 0..40 {
        let text = format!("{n} {}", "x".repeat(LONG));
        edge.act("mira", &text).await?;
    }
    let (mut after, mut seqs, mut pages) = (0, Vec::new(), 0);
    loop {
        let query = format!("?after={after}&limit=500");
        let page = edge.page("oren", &query).await?.bytes().await?;
        assert!(page.len() < 1_024 * 1_024 + 2 * LONG, "{}", page.len());
        let page: Value = serde_json::from_slice(&page)?;
        pages += 1;
        let events = page["events"].as_array().into_iter().flatten();
        seqs.extend(events.filter_map(|placed| placed["seq"].as_u64()));
        match page["next"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!((seqs, pages), ((1..=40).collect::<Vec<u64>>(), 3));
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_a_problem_with_its_status() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let (reader, author) = (
        edge.token("oren", Role::Reader)?,
        edge.token("mira", Role::Author)?,
    );
    let action = r#"{"mode":"do","text":"Hi"}"#.to_owned();
    let at_most = story::MAX_EVENT_BYTES;
    let of = |bytes: usize| format!("{action}{}", " ".repeat(bytes - action.len()));
    let path = "/v1/stories/castle/events";
    for (path, token, body, status, code) in [
        (path, Some(&author), action.clone(), 202, ""),
        (path, Some(&author), of(at_most), 202, ""),
        (path, Some(&author), of(at_most + 1), 413, "too_large"),
        (path, Some(&author), of(10 * 1024 * 1024), 413, "too_large"),
        (path, Some(&author), "{".to_owned(), 400, "bad_request"),
        (path, Some(&author), String::new(), 400, "bad_request"),
        (path, Some(&reader), action.clone(), 403, "forbidden"),
        (path, None, action.clone(), 401, "auth"),
        (
            "/v1/stories/tower/events",
            Some(&author),
            action.clone(),
            403,
            "forbidden",
        ),
        (
            "/v1/stories/Not%20One/events",
            Some(&author),
            action.clone(),
            400,
            "bad_request",
        ),
        (
            "/v1/nothing",
            Some(&author),
            action.clone(),
            404,
            "not_found",
        ),
    ] {
        refused(&edge, (path, token, body), (status, code)).await?;
    }
    edge.stack.end().await;
    Ok(())
}

/// 202 is no refusal.
async fn refused(
    edge: &Edge,
    (path, token, body): (&str, Option<&String>, String),
    (status, code): (u16, &str),
) -> anyhow::Result<()> {
    let mut request = edge.client.post(edge.node.url(path));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let request = request
        .header("content-type", "application/json")
        .body(body);
    let response = request.send().await?;
    assert_eq!(response.status(), status, "{path} {code}");
    if status != 202 {
        let kind = response.headers()["content-type"].to_str()?;
        assert_eq!(kind, "application/problem+json", "{path} {code}");
        let problem: Value = response.json().await?;
        assert_eq!(
            (&problem["code"], problem["status"].as_u64()),
            (&json!(code), Some(u64::from(status)))
        );
        let words = problem["detail"].as_str();
        assert!(words.is_some_and(|words| words.len() > 10), "{problem}");
    }
    Ok(())
}

#[tokio::test]
async fn an_idempotency_key_has_its_bounds() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let (author, path) = (
        edge.token("mira", Role::Author)?,
        "/v1/stories/castle/events",
    );
    for key in ["", &"k".repeat(65), "k\u{e9}"] {
        let request = edge.client.post(edge.node.url(path)).bearer_auth(&author);
        let value = reqwest::header::HeaderValue::from_bytes(key.as_bytes())?;
        let request = request
            .header("idempotency-key", value)
            .json(&json!({"mode": "do", "text": "Hi"}));
        let response = request.send().await?;
        assert_eq!(response.status(), 400, "{key:?}");
        assert!(response.text().await?.contains("Idempotency-Key"));
    }
    let request = edge.client.post(edge.node.url(path)).bearer_auth(&author);
    let request = request
        .header("idempotency-key", "one")
        .header("idempotency-key", "two")
        .json(&json!({"mode": "do", "text": "Hi"}));
    let response = request.send().await?;
    assert_eq!(response.status(), 400);
    assert!(response.text().await?.contains("twice"));
    for (id, status) in [("one", 202), ("two", 400)] {
        let request = edge.client.post(edge.node.url(path)).bearer_auth(&author);
        let request = request.header("idempotency-key", "one");
        let action = json!({"id": id, "mode": "do", "text": "Hi"});
        assert_eq!(request.json(&action).send().await?.status(), status, "{id}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_story_that_is_asked_for_again_under_the_same_key_was_made() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let ask = async |sub: &str, key: Option<&str>, title: &str| {
        let token = edge
            .issuer
            .token(&Person::new(sub, &[("*", Role::Owner)]))?;
        let request = edge.client.post(edge.node.url("/v1/stories"));
        let mut request = request.bearer_auth(&token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let story = json!({"id": "tower", "title": title, "lore": {"sea": "It is deep."}});
        let response = request.json(&story).send().await?;
        let status = response.status().as_u16();
        anyhow::Ok((status, response.json::<Value>().await?))
    };
    let (status, made) = ask("mira", Some("k"), "The tower").await?;
    assert_eq!(status, 201, "{made}");
    let again = ask("mira", Some("k"), "The tower").await?;
    assert_eq!(again, (201, made.clone()));
    for (sub, key, title) in [
        ("mira", None, "The tower"),
        ("mira", Some("l"), "The tower"),
        ("oren", Some("k"), "The tower"),
        ("mira", Some("k"), "The lighthouse"),
    ] {
        let (status, told) = ask(sub, key, title).await?;
        assert_eq!((status, &told["code"]), (409, &json!("story_exists")));
    }
    let token = edge
        .issuer
        .token(&Person::new("mira", &[("*", Role::Reader)]))?;
    let read = edge.client.get(edge.node.url("/v1/stories/tower"));
    let read = read.bearer_auth(&token).send().await?;
    assert_eq!(read.headers()["cache-control"], "no-store");
    assert_eq!(read.json::<Value>().await?, made);
    // Whoever hears late that it was made is told of the story as it is by then.
    let patch = bus::StoryPatch {
        premise: Some("A fire is lit each night.".to_owned()),
        ..bus::StoryPatch::default()
    };
    edge.stack
        .bus
        .patch_story(&"tower".parse()?, &patch)
        .await?;
    let (status, told) = ask("mira", Some("k"), "The tower").await?;
    assert_eq!((status, &told["premise"]), (201, &json!(patch.premise)));
    assert_eq!(told["created"], made["created"]);
    edge.stack.end().await;
    Ok(())
}

/// What the gateway answers to someone who owns all stories, with its status.
async fn as_owner(
    edge: &Edge,
    method: &str,
    path: &str,
    body: Value,
) -> anyhow::Result<(u16, Value)> {
    let owner = Person::new("mira", &[("*", Role::Owner)]);
    let request = edge.client.request(method.parse()?, edge.node.url(path));
    let request = request.bearer_auth(edge.issuer.token(&owner)?);
    let response = request.json(&body).send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

/// What is left out of a change must not let through what nobody has looked at.
#[tokio::test]
async fn a_change_of_one_policy_leaves_the_others() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let ask = async |method, path, body| as_owner(&edge, method, path, body).await;
    let held = json!({"input": "hold", "output": "hold", "recording": "on"});
    let new = json!({"id": "tower", "policies": {"input": "hold", "output": "hold"}});
    let (status, made) = ask("POST", "/v1/stories", new).await?;
    assert_eq!((status, &made["policies"]), (201, &held), "{made}");
    let tower = "/v1/stories/tower";
    for (change, policies) in [
        (json!({}), held),
        (
            json!({"recording": "off"}),
            json!({"input": "hold", "output": "hold", "recording": "off"}),
        ),
        (
            json!({"output": "retract"}),
            json!({"input": "hold", "output": "retract", "recording": "off"}),
        ),
    ] {
        let (status, told) = ask("PATCH", tower, json!({"policies": change})).await?;
        assert_eq!((status, &told["policies"]), (200, &policies), "{change}");
    }
    for wrong in [json!({"outptu": "hold"}), json!(["hold"]), Value::Null] {
        for field in ["policies", "content"] {
            let (status, told) = ask("PATCH", tower, json!({field: wrong})).await?;
            assert_eq!(status, 400, "{field} {wrong}: {told}");
            let new = json!({"id": "other", field: wrong});
            let (status, told) = ask("POST", "/v1/stories", new).await?;
            assert_eq!(status, 400, "{field} {wrong}: {told}");
        }
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_change_of_what_a_story_may_tell_leaves_the_rest_of_it() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let ask = async |method, path, body| as_owner(&edge, method, path, body).await;
    let lists = json!({"rating": "general", "blocked": ["Vex", "a b"], "allowed": ["Gory"]});
    let new = json!({"id": "tower", "content": lists});
    let (status, made) = ask("POST", "/v1/stories", new).await?;
    assert_eq!((status, &made["content"]), (201, &lists), "{made}");
    let tower = "/v1/stories/tower";
    for (change, content) in [
        (json!({"title": "The tower"}), lists.clone()),
        (
            json!({"content": {"rating": "mature"}, "policies": {"output": "hold"}}),
            json!({"rating": "mature", "blocked": ["Vex", "a b"], "allowed": ["Gory"]}),
        ),
        (
            json!({"content": {"blocked": [], "allowed": ["Gory", "Gory", "A"]}}),
            json!({"rating": "mature", "blocked": [], "allowed": ["A", "Gory"]}),
        ),
        (
            json!({"content": {"rating": "teen", "allowed": []}}),
            json!({"rating": "teen", "blocked": [], "allowed": []}),
        ),
    ] {
        let (status, told) = ask("PATCH", tower, change.clone()).await?;
        assert_eq!((status, &told["content"]), (200, &content), "{change}");
        let (_, read) = ask("GET", tower, Value::Null).await?;
        assert_eq!(read["content"], content);
        let reader = edge
            .issuer
            .token(&Person::new("oren", &[("*", Role::Reader)]))?;
        let read = edge.client.get(edge.node.url(tower)).bearer_auth(reader);
        let read: Value = read.send().await?.json().await?;
        let shown = json!({"rating": content["rating"], "blocked": [], "allowed": []});
        assert_eq!(read["content"], shown);
    }
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    for wrong in [
        json!({"rating": "adult"}),
        json!({"blocked": many}),
        json!({"allowed": ["ø".repeat(65)]}),
        json!({"allowed": [""]}),
        json!({"banned": ["a"]}),
    ] {
        for (method, path) in [("POST", "/v1/stories"), ("PATCH", tower)] {
            let mut body = json!({"content": wrong});
            if method == "POST" {
                body["id"] = json!("other");
            }
            let (status, told) = ask(method, path, body).await?;
            assert_eq!(status, 400, "{wrong}: {told}");
        }
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn an_action_belongs_to_the_trace_of_its_request_or_begins_one() -> anyhow::Result<()> {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let edge = Edge::start(&[]).await?;
    let url = edge.node.url("/v1/stories/castle/events");
    let nothing = TRACE.replace(['2', '4'], "x");
    for trace in [Some(TRACE), Some(&nothing), None] {
        let token = edge.token("mira", Role::Author)?;
        let mut request = edge.client.post(&url).bearer_auth(token);
        if let Some(trace) = trace {
            request = request.header("traceparent", trace);
        }
        let action = json!({"mode": "do", "text": "I open the door"});
        let response = request.json(&action).send().await?;
        assert_eq!(response.status(), 202, "{trace:?}");
    }
    let page: Value = edge.page("mira", "").await?.json().await?;
    let events = page["events"].as_array().into_iter().flatten();
    let traces: Vec<_> = events.map(|placed| &placed["event"]["trace"]).collect();
    assert_eq!((traces.len(), traces[0]), (3, &json!(TRACE)));
    for made in &traces[1..] {
        let made = made.as_str().unwrap_or_default();
        assert!(
            made.parse::<story::Traceparent>().is_ok() && made.ends_with("-01"),
            "{made}"
        );
    }
    assert_ne!(traces[1], traces[2]);
    edge.stack.end().await;
    Ok(())
}
