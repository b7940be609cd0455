//! The OpenAPI document: the routes with their descriptions, and what all of them have in common. Schemas of events and
//! stories are those of docs/story.schema.json.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use utoipa::openapi::Ref;

use crate::page;
use crate::problem::Problem;

const SCHEMAS: &str = include_str!("../../../docs/story.schema.json");

/// Schemas that are named below alone.
#[derive(OpenApi)]
#[openapi(components(schemas(Problem)))]
pub(super) struct Shared;

static DOCUMENT: LazyLock<(String, HeaderValue)> = LazyLock::new(|| {
    let text = document().to_string();
    let tag = page::tag(text.as_bytes());
    (text, tag)
});

/// What every operation may answer besides its own.
const EVERYWHERE: [(u16, &str); 4] = [
    (400, "bad_request"),
    (401, "auth"),
    (429, "rate"),
    (503, "unavailable"),
];
const OF_STORIES: [(u16, &str); 2] = [(403, "forbidden"), (404, "no_story")];
const OF_BODIES: [(u16, &str); 3] = [(408, "slow"), (413, "too_large"), (415, "not_json")];

/// The problems of an operation beyond [`EVERYWHERE`].
fn problems(operation: &str) -> Option<Vec<(u16, &'static str)>> {
    let own: &[(u16, &str)] = match operation {
        "createStory" => &[(403, "forbidden"), (409, "story_exists")],
        "publishEvent" => &[(422, "not_publishable"), (429, "full")],
        "connect" => &[
            (400, "websocket_needs_http1"),
            (403, "forbidden"),
            (426, "upgrade"),
            (429, "too_many"),
        ],
        "createTicket" => &[(403, "forbidden"), (413, "too_large")],
        "createToken" => &[
            (403, "forbidden"),
            (409, "not_issued_here"),
            (500, "not_signed"),
        ],
        "readStory" | "changeStory" | "readEvents" | "streamStory" | "type" => &[],
        _ => return None,
    };
    let of_stories: &[_] = match operation {
        "readStory" | "changeStory" | "readEvents" | "publishEvent" | "type" => &OF_STORIES,
        _ => &[],
    };
    let of_bodies: &[_] = match operation {
        "createStory" | "changeStory" | "publishEvent" => &OF_BODIES,
        _ => &[],
    };
    // Errors of the stream are told in band.
    let everywhere: &[_] = match operation {
        "streamStory" => &[],
        _ => &EVERYWHERE,
    };
    Some([everywhere, own, of_stories, of_bodies].concat())
}

/// The API, for programs
#[utoipa::path(get, path = "/openapi.json", operation_id = "describe", tag = "about", security(()),
    responses((status = 200, description = "This document, with its ETag", content_type = "application/json", body = Object),
        (status = 304, description = "What the client has is this version")))]
pub(super) async fn describe(headers: HeaderMap) -> Response {
    let (text, tag) = &*DOCUMENT;
    let fixed = [
        (header::ETAG, tag.clone()),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=300"),
        ),
    ];
    if page::is_known(&headers, tag) {
        return (StatusCode::NOT_MODIFIED, fixed).into_response();
    }
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (fixed, kind, text.as_str()).into_response()
}

pub(crate) fn text() -> &'static str {
    &DOCUMENT.0
}

fn document() -> Value {
    let mut document = serde_json::to_value(super::routes().into_openapi())
        .unwrap_or_else(|error| unreachable!("a document is always JSON: {error}"));
    document["info"] = json!({
        "title": "Storyfleet gateway",
        "version": env!("CARGO_PKG_VERSION"),
        "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        "description": "People write into a story; agents answer. Errors are problem+json with a `code` for programs. Every \
            answer has `x-request-id`: the client's own (1 to 64 of A-Z, a-z, 0-9, '.', '_', '-') or a new one. An address \
            that is none answers 404 `not_found`, a method that it does not take 405 `method` with `Allow`. The messages of \
            the WebSocket and of the stream are in docs/asyncapi.yaml.",
    });
    document["security"] = json!([{"bearer": []}, {"cookie": []}, {"ticket": []}]);
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": crate::auth::COOKIE,
            "description": "From the gateway's own pages and those of named origins"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket",
            "description": "From POST /v1/tickets: once, and for 30 s"},
    });
    let schemas = SCHEMAS.replace("#/$defs/", "#/components/schemas/");
    let schemas: Value = serde_json::from_str(&schemas)
        .unwrap_or_else(|error| unreachable!("docs/story.schema.json is JSON: {error}"));
    if let (Some(all), Some(more)) = (
        document["components"]["schemas"].as_object_mut(),
        schemas["$defs"].as_object(),
    ) {
        all.extend(more.clone());
    }
    let paths = document["paths"].as_object_mut();
    for path in paths.into_iter().flat_map(Map::values_mut) {
        for operation in path.as_object_mut().into_iter().flat_map(Map::values_mut) {
            complete(operation);
        }
    }
    document
}

/// Adds the problems, and the header of every answer.
fn complete(operation: &mut Value) {
    let name = operation["operationId"].as_str().unwrap_or_default();
    for (status, code) in problems(name).unwrap_or_default() {
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            *response = problem(status);
        }
        let schema = &mut response["content"]["application/problem+json"]["schema"];
        if let Some(codes) = schema["allOf"][1]["properties"]["code"]["enum"].as_array_mut() {
            codes.push(json!(code));
        }
    }
    let responses = operation["responses"].as_object_mut();
    for response in responses.into_iter().flat_map(Map::values_mut) {
        response["headers"]["x-request-id"] = json!({"schema": {"type": "string"}});
    }
}

fn problem(status: u16) -> Value {
    let of = StatusCode::from_u16(status).ok();
    let title = of.and_then(|status| status.canonical_reason());
    let own = json!({"properties": {"status": {"const": status}, "code": {"enum": []}}});
    let schema = json!({"allOf": [{"$ref": "#/components/schemas/Problem"}, own]});
    let mut problem = json!({
        "description": title.unwrap_or("Error"),
        "content": {"application/problem+json": {"schema": schema}},
    });
    if matches!(status, 429 | 503) {
        let seconds =
            json!({"schema": {"type": "integer", "minimum": 1}, "description": "In seconds"});
        problem["headers"]["retry-after"] = seconds;
    }
    problem
}

/// References to docs/story.schema.json, for fields whose types know nothing of documents.
pub(crate) mod schema {
    use super::Ref;

    macro_rules! references {
        ($($function:ident $name:literal),*) => {$(
            pub(crate) fn $function() -> Ref { Ref::from_schema_name($name) }
        )*};
    }
    references!(story_id "StoryId", event_id "EventId", seq "Seq", mode "Mode", policies "Policies", policies_change "PoliciesChange", content "ContentPolicy", content_change "ContentChange",
        characters "Characters", character_changes "CharacterChanges", lore "Lore", lore_changes "LoreChanges",
        audience "Audience", event "Event");
}

#[cfg(test)]
mod tests;
