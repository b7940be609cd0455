//! Reading what a provider says when it refuses: status and body become a class and a message.

use serde_json::Value;

use crate::{Class, Error};

/// The error of an HTTP answer that is not 2xx. The body may be JSON of any shape, HTML or text.
pub(crate) fn of_answer(status: u16, body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let mut error = match serde_json::from_slice::<Value>(body) {
        Ok(value) => of_body(Some(status), value.get("error").unwrap_or(&value)),
        Err(_) => Error::new(class(Some(status), &text.to_lowercase()), quotable(&text)),
    };
    error.status = Some(status);
    error.message = match error.message.trim() {
        "" => format!("the provider answered {status}"),
        said if error.class == Class::Auth => {
            format!("the provider answered {status} (is the API key set, and right?): {said}")
        }
        said => format!("the provider answered {status}: {said}"),
    };
    error
}

/// The error of a frame inside an answer that began well. Its integer `code` is its status.
pub(crate) fn of_frame(body: &Value) -> Error {
    let status = ["status", "code"]
        .iter()
        .find_map(|field| body[*field].as_u64());
    let status = status
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| (400..600).contains(n));
    let mut error = of_body(status, body);
    error.status = status;
    error.message = format!("the provider broke off: {}", error.message.trim());
    error
}

fn of_body(status: Option<u16>, body: &Value) -> Error {
    let message = body
        .as_str()
        .or_else(|| body["message"].as_str())
        .unwrap_or_default();
    let words = [body["code"].as_str(), body["type"].as_str(), Some(message)];
    let words = words
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    Error::new(class(status, &words), message)
}

/// The status decides, except that a few words in the body know better. Without a status the words
/// decide alone, and an error nobody can name is the provider's.
fn class(status: Option<u16>, words: &str) -> Class {
    let said = |any: &[&str]| any.iter().any(|word| words.contains(word));
    const QUOTA: &[&str] = &[
        "insufficient_quota",
        "billing_hard_limit",
        "insufficient credits",
    ];
    const BLOCKED: &[&str] = &["content_filter", "content_policy", "responsibleaipolicy"];
    const CONTEXT: &[&str] = &[
        "context_length",
        "context length",
        "context size",
        "context_size",
        "context window",
        "prompt is too long",
    ];
    match status {
        Some(402) => Class::Quota,
        Some(429) | None if said(QUOTA) => Class::Quota,
        Some(429) => Class::Rate,
        Some(408 | 500..) => Class::Provider,
        Some(401) => Class::Auth,
        Some(_) | None if said(BLOCKED) => Class::Blocked,
        Some(403) => Class::Auth,
        Some(_) | None if said(CONTEXT) => Class::Context,
        Some(_) => Class::Request,
        None if said(&["rate_limit", "rate limit"]) => Class::Rate,
        None if said(&["authentication", "api_key"]) => Class::Auth,
        None if said(&["invalid_request"]) => Class::Request,
        None => Class::Provider,
    }
}

/// Text for people is kept; a web page is not worth quoting.
fn quotable(text: &str) -> &str {
    if text.trim_start().starts_with('<') {
        "a web page, not an API's answer: is the base URL right?"
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class_of(status: u16, body: &str) -> Class {
        let error = of_answer(status, body.as_bytes());
        assert_eq!(error.status, Some(status));
        error.class
    }

    #[test]
    fn the_status_gives_the_class_whatever_the_body_is() {
        for (status, class) in [
            (301, Class::Request),
            (400, Class::Request),
            (401, Class::Auth),
            (402, Class::Quota),
            (403, Class::Auth),
            (404, Class::Request),
            (408, Class::Provider),
            (429, Class::Rate),
            (500, Class::Provider),
            (529, Class::Provider),
        ] {
            let flat = format!(r#"{{"object":"error","message":"no","code":{status}}}"#);
            for body in ["", "no", "<html>no</html>", &flat, r#"{"error":"no"}"#] {
                assert_eq!(class_of(status, body), class, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_few_words_know_better_than_the_status() {
        for (status, code, class) in [
            (429, "insufficient_quota", Class::Quota),
            (403, "content_policy_violation", Class::Blocked),
            (400, "content_filter", Class::Blocked),
            (400, "context_length_exceeded", Class::Context),
            (400, "exceed_context_size_error", Class::Context),
            (429, "context_length_exceeded", Class::Rate),
            (500, "context_length_exceeded", Class::Provider),
        ] {
            let by_code = format!(r#"{{"error":{{"message":"x","code":"{code}"}}}}"#);
            let by_type =
                format!(r#"{{"error":{{"message":"x","code":{status},"type":"{code}"}}}}"#);
            let by_text = format!("error: {code}");
            for body in [by_code, by_type, by_text] {
                assert_eq!(class_of(status, &body), class, "{status} {body}");
            }
        }
    }

    #[test]
    fn a_frame_is_classed_by_its_code_or_its_words() {
        for (frame, class) in [
            (json!({"code": 429}), Class::Rate),
            (json!({"code": "rate_limit_exceeded"}), Class::Rate),
            (json!({"code": 502}), Class::Provider),
            (json!({"type": "invalid_request_error"}), Class::Request),
            (json!({"code": "content_filter"}), Class::Blocked),
            (json!({"code": "insufficient_quota"}), Class::Quota),
            (json!("out of memory"), Class::Provider),
            (json!({}), Class::Provider),
        ] {
            assert_eq!(of_frame(&frame).class, class, "{frame}");
        }
    }

    #[test]
    fn a_web_page_is_not_quoted() {
        let error = of_answer(404, b"<!doctype html><p>nginx</p>");
        assert_eq!(
            error.message,
            "the provider answered 404: a web page, not an API's answer: is the base URL right?"
        );
    }
}
