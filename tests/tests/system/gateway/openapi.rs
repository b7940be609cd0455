//! The OpenAPI document against what the gateway does.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use gateway::auth::Role;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use system_tests::edge::Person;

use super::Edge;

/// A request, and the status that it is answered with.
struct Case {
    method: Method,
    path: &'static str,
    role: Option<Role>,
    body: Option<Value>,
    status: u16,
}

fn case(method: Method, path: &'static str, role: Option<Role>, status: u16) -> Case {
    Case {
        method,
        path,
        role,
        body: None,
        status,
    }
}

fn with(method: Method, path: &'static str, body: Value, status: u16) -> Case {
    let role = match path {
        "/v1/stories/castle/events" => Role::Author,
        _ => Role::Owner,
    };
    Case {
        body: Some(body),
        ..case(method, path, Some(role), status)
    }
}

fn cases() -> Vec<Case> {
    let (get, post, patch) = (Method::GET, Method::POST, Method::PATCH);
    let (story, events) = ("/v1/stories/castle", "/v1/stories/castle/events");
    let reader = Some(Role::Reader);
    let action = json!({"mode": "do", "text": "Hi"});
    let tower = json!({"id": "tower", "title": "T", "characters": {"Ada": {"description": "old"}}});
    let removal = json!({"title": "C", "characters": {"Ada": null}, "lore": {"a": "b"}});
    let mut cases = vec![
        case(get.clone(), "/openapi.json", None, 200),
        with(post.clone(), "/v1/stories", tower.clone(), 201),
        with(post.clone(), "/v1/stories", tower, 409),
        with(post.clone(), "/v1/stories", json!({"id": "No"}), 400),
        with(post.clone(), "/v1/stories", json!(["tower"]), 400),
        with(post.clone(), "/v1/stories", json!({"id": "other"}), 403),
        with(patch.clone(), story, removal, 200),
        with(patch.clone(), story, json!({"nothing": 1}), 400),
        with(patch.clone(), "/v1/stories/moat", json!({}), 404),
        with(post.clone(), events, action.clone(), 202),
        with(post.clone(), events, json!({"mode": "fly"}), 400),
        with(
            post.clone(),
            events,
            json!({"text": "x".repeat(70_000)}),
            413,
        ),
        with(post.clone(), "/v1/stories/moat/events", action, 404),
        case(post.clone(), events, Some(Role::Author), 415),
        case(post.clone(), events, None, 401),
        Case {
            body: Some(json!({})),
            ..case(patch, story, reader, 403)
        },
        case(post.clone(), "/v1/stories", None, 401),
        case(post.clone(), "/v1/tickets", reader, 200),
        case(post.clone(), "/v1/tickets", None, 401),
        case(post.clone(), "/v1/tokens", None, 200),
        case(post.clone(), "/v1/tokens", reader, 403),
        case(post, "/v1/tokens", None, 401),
        case(get.clone(), "/v1/ws", None, 400),
    ];
    for path in [story, events] {
        cases.push(case(get.clone(), path, reader, 200));
        cases.push(case(get.clone(), path, None, 401));
    }
    for path in ["/v1/stories/moat", "/v1/stories/moat/events"] {
        cases.push(case(get.clone(), path, reader, 404));
    }
    for path in [
        "/v1/stories/No",
        "/v1/stories/castle/events?limit=0",
        "/v1/stories/castle/events?after=9223372036854775808",
    ] {
        cases.push(case(get.clone(), path, reader, 400));
    }
    for path in ["/v1/stories/other", "/v1/stories/other/events"] {
        cases.push(case(get.clone(), path, reader, 403));
    }
    cases
}

fn cases_of_names() -> Vec<Case> {
    let nameless = json!({"id": "tower", "characters": {"": {}}});
    let steering = json!({"characters": {"a\nb": {}}});
    vec![
        with(Method::POST, "/v1/stories", nameless, 400),
        with(Method::PATCH, "/v1/stories/castle", steering, 400),
    ]
}

fn cases_of_typing() -> Vec<Case> {
    let path = "/v1/stories/castle/typing";
    let post = |path, role, status| case(Method::POST, path, role, status);
    vec![
        post(path, Some(Role::Author), 204),
        post(path, Some(Role::Reader), 403),
        post(path, None, 401),
        post("/v1/stories/No/typing", Some(Role::Author), 400),
    ]
}

async fn document(client: &Client, url: &str) -> anyhow::Result<Value> {
    Ok(client.get(url).send().await?.json().await?)
}

/// The path of the document that this one is an example of.
fn template(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let mut parts: Vec<_> = path.split('/').collect();
    if path.starts_with("/v1/stories/")
        && let Some(id) = parts.get_mut(3)
    {
        *id = "{id}";
    }
    parts.join("/")
}

async fn check(document: &Value, case: &Case, response: Response) -> anyhow::Result<()> {
    let (path, method) = (template(case.path), case.method.as_str().to_lowercase());
    let what = format!("{method} {} {}", case.path, case.status);
    assert_eq!(response.status(), case.status, "{what}");
    let known = &document["paths"][&path][&method]["responses"][case.status.to_string()];
    assert!(known.is_object(), "{what} is not in the document");
    if case.status == 204 {
        assert!(known.get("content").is_none(), "{what} has a body");
        return Ok(());
    }
    let kind = response.headers()["content-type"].to_str()?.to_owned();
    let schema = &known["content"][&kind]["schema"];
    assert!(schema.is_object(), "{what}: {kind} is not in the document");
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::validator_for(&whole)?;
    let body: Value = response.json().await?;
    let errors: Vec<_> = validator
        .iter_errors(&body)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{what}: {body} {errors:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_gateway_answers_is_what_its_document_says() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let document = document(&edge.client, &edge.node.url("/openapi.json")).await?;
    let mut seen = BTreeMap::<String, BTreeSet<u16>>::new();
    let all = [cases(), cases_of_names(), cases_of_typing()];
    for case in all.into_iter().flatten() {
        let mut url = edge.node.url(case.path);
        if (case.path, case.status) == ("/v1/tokens", 200) {
            // For a ticket alone.
            let ticket = edge.post("mira", "/v1/tickets", &json!({})).await?;
            let ticket: Value = ticket.json().await?;
            url += &format!("?ticket={}", ticket["ticket"].as_str().context("a ticket")?);
        }
        let mut request = edge.client.request(case.method.clone(), url);
        if let Some(role) = case.role {
            let stories = [("castle", role), ("tower", role), ("moat", role)];
            request = request.bearer_auth(edge.issuer.token(&Person::new("mira", &stories))?);
        }
        if let Some(body) = &case.body {
            request = request.json(body);
        }
        check(&document, &case, request.send().await?).await?;
        let name = format!("{} {}", case.method, template(case.path));
        seen.entry(name).or_default().insert(case.status);
    }
    // All but the stream: its messages have a document of their own.
    assert_eq!(seen.len(), 10, "{seen:?}");
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn each_address_takes_the_methods_of_the_document_and_no_other() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let document = document(&edge.client, &edge.node.url("/openapi.json")).await?;
    let paths = document["paths"].as_object().context("paths")?;
    for (path, methods) in paths {
        let url = edge.node.url(&path.replace("{id}", "castle"));
        let response = edge.client.delete(url).send().await?;
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()["allow"].to_str()?;
        let allowed: BTreeSet<_> = allowed.split(',').map(str::to_owned).collect();
        let methods = methods.as_object().context("methods")?;
        let mut known: BTreeSet<_> = methods.keys().map(|name| name.to_uppercase()).collect();
        if known.contains("GET") {
            known.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, known, "{path}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn whoever_has_the_document_is_not_sent_it_again() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let url = edge.node.url("/openapi.json");
    let response = edge.client.get(&url).send().await?;
    let tag = response.headers()["etag"].clone();
    let request = edge.client.get(&url).header("if-none-match", tag);
    assert_eq!(request.send().await?.status(), 304);
    edge.stack.end().await;
    Ok(())
}
