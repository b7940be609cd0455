//! Pages of other origins, and what every answer has.

use gateway::auth::Role;
use reqwest::{Method, Response};
use serde_json::Value;

use super::Edge;

async fn asks(edge: &Edge, origin: &str) -> anyhow::Result<Response> {
    let url = edge.node.url("/v1/stories/castle/events");
    let request = edge.client.request(Method::OPTIONS, url);
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    Ok(request.send().await?)
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_use_the_api_and_another_may_not() -> anyhow::Result<()> {
    let app = "https://app.example";
    let edge = Edge::start(&["--origin", app]).await?;
    let response = asks(&edge, app).await?;
    assert_eq!(response.status(), 204);
    assert_eq!(header(&response, "access-control-allow-origin"), Some(app));
    let credentials = "access-control-allow-credentials";
    assert_eq!(header(&response, credentials), Some("true"));
    let names = header(&response, "access-control-allow-headers").unwrap_or_default();
    assert!(names.contains("authorization") && names.contains("content-type"));

    let response = asks(&edge, "https://evil.example").await?;
    assert_eq!(response.status(), 403);
    assert_eq!(header(&response, "access-control-allow-origin"), None);
    assert_eq!(header(&response, "vary"), Some("origin"));

    let token = edge.token("oren", Role::Reader)?;
    for (origin, allowed) in [(app, Some(app)), ("https://evil.example", None)] {
        for (path, status) in [("/v1/stories/castle", 200), ("/v1/stories/No", 400)] {
            let request = edge.client.get(edge.node.url(path)).bearer_auth(&token);
            let response = request.header("origin", origin).send().await?;
            assert_eq!(response.status(), status);
            assert_eq!(header(&response, "access-control-allow-origin"), allowed);
        }
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn every_answer_has_the_id_of_its_request() -> anyhow::Result<()> {
    let edge = Edge::start(&["--log-filter", "debug"]).await?;
    for (path, status) in [
        ("/", 200),
        ("/v1/nothing", 404),
        ("/v1/stories/castle", 401),
    ] {
        let url = edge.node.url(&format!("{path}?ticket=a-secret-one"));
        let request = edge.client.get(url).header("x-request-id", "mine.1");
        let response = request.send().await?;
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(header(&response, "x-request-id"), Some("mine.1"), "{path}");
        if status != 200 {
            let problem: Value = response.json().await?;
            assert_eq!(problem["request_id"], "mine.1");
        }
    }
    let (_, upgraded) =
        system_tests::edge::Socket::ask(edge.address(), "/v1/ws", &[("x-request-id", "socket.1")])
            .await?;
    assert_eq!(upgraded.headers()["x-request-id"], "socket.1");
    let log = edge.node.log()?;
    assert!(
        log.contains("mine.1") && !log.contains("a-secret-one"),
        "{log}"
    );
    edge.stack.end().await;
    Ok(())
}
