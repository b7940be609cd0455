//! Faults that answer with a status and a short body instead of an answer.

use std::time::{Duration, SystemTime};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::fault::{Fault, Kind};
use crate::wire::{Refusal, json_body};

const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head><body>\
    <center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\n";

/// The response of a fault that is one.
pub(crate) fn response(fault: Fault) -> Option<Response> {
    let n = fault.amount;
    let response = match fault.kind {
        Kind::RateLimit => rate().header("retry-after", n.to_string()).into_response(),
        Kind::RateLimitDate => {
            let date = SystemTime::now() + Duration::from_secs(n.into());
            let date = httpdate::fmt_http_date(date);
            rate().header("retry-after", date).into_response()
        }
        Kind::RateLimitMs => rate()
            .header("retry-after-ms", n.to_string())
            .into_response(),
        Kind::RateLimitBare => rate().into_response(),
        Kind::RateLimitText => (StatusCode::TOO_MANY_REQUESTS, "Too Many Requests").into_response(),
        Kind::RateLimitIntegerCode => too_many(&json!({"error": {
            "message": rate().message, "type": "rate_limit_error", "param": null, "code": 429}})),
        Kind::RateLimitFlat => too_many(&json!({
            "object": "error", "message": rate().message, "type": "rate_limit_error", "code": 429})),
        Kind::InsufficientQuota => quota().into_response(),
        Kind::Error500 => server(500, "The server had an error while processing your request"),
        Kind::Error502 => html(StatusCode::BAD_GATEWAY),
        Kind::Error503 => server(
            503,
            "The engine is currently overloaded, please try again later",
        ),
        Kind::Error529 => overloaded(),
        Kind::HtmlAnswer => html(StatusCode::OK),
        Kind::Unauthorized => unauthorized().into_response(),
        Kind::ContextLengthExceeded => context().into_response(),
        _ => return None,
    };
    Some(response)
}

pub(crate) fn unauthorized() -> Refusal {
    let (kind, message) = ("invalid_request_error", "Incorrect API key provided.");
    Refusal::new(StatusCode::UNAUTHORIZED, kind, message).code("invalid_api_key")
}

/// The error that a stream tells in band.
pub(crate) fn in_band() -> Refusal {
    let message = "The server had an error while processing your request";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
}

fn rate() -> Refusal {
    let message = "Rate limit reached for requests. Please try again later.";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, "requests", message).code("rate_limit_exceeded")
}

fn quota() -> Refusal {
    let message = "You exceeded your current quota, please check your plan and billing details.";
    let kind = "insufficient_quota";
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, kind, message).code(kind)
}

fn context() -> Refusal {
    let message = "This model's maximum context length is 8192 tokens. \
        However, your messages resulted in more. Please reduce the length of the messages.";
    Refusal::bad_request(message)
        .param("messages")
        .code("context_length_exceeded")
}

fn server(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status of the table");
    Refusal::new(status, "server_error", message).into_response()
}

fn overloaded() -> Response {
    let status = StatusCode::from_u16(529).expect("529 is within the range of statuses");
    Refusal::new(status, "overloaded_error", "Overloaded").into_response()
}

fn too_many(body: &serde_json::Value) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, json_body(body.to_string())).into_response()
}

fn html(status: StatusCode) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html")], PAGE).into_response()
}
