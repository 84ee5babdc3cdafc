//! The response to a refused request: an error of the API, or `application/problem+json` (RFC 9457); always
//! with `Proxy-Status` (RFC 9209) and the record's id.

use std::time::Duration;

use bytes::Bytes;
use countersign_config::model::RefusalShape;
use countersign_core::reason::{Facts, Language};
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, RETRY_AFTER},
};
use serde_json::{Value, json};

use super::Refusal;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The response within a tunnel, or to a request in absolute form. `id` is the record's.
pub fn answer(refusal: &Refusal, id: &str) -> Response<Bytes> {
    let facts = refusal.reason.facts();
    let shape = refusal
        .target
        .as_ref()
        .and_then(|target| target.refusal.as_ref())
        .filter(|_| facts.language != Language::Http);
    let mut response = match shape {
        Some(shape) => in_the_apis_language(shape, facts, id),
        None => problem(facts, id),
    };
    decorate(&mut response, facts, refusal.retry_after, id);
    response
}

/// The response to a refused CONNECT, of which most clients show only the status.
pub fn connect_answer(refusal: &Refusal, id: &str) -> Response<Bytes> {
    let facts = refusal.reason.facts();
    let mut response = problem(facts, id);
    decorate(&mut response, facts, refusal.retry_after, id);
    response
}

fn in_the_apis_language(shape: &RefusalShape, facts: &Facts, id: &str) -> Response<Bytes> {
    let body = fill(&shape.body, facts, id).to_string();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status(match facts.language {
        Language::Api => shape.status,
        Language::Http | Language::ApiBody => facts.status,
    });
    if let Ok(content_type) = HeaderValue::from_str(&shape.content_type) {
        response.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    response
}

/// Fills `{reason}`, `{message}` and `{id}` into every string of the shape's body.
fn fill(shape: &Value, facts: &Facts, id: &str) -> Value {
    match shape {
        Value::String(text) => Value::String(
            text.replace("{reason}", facts.code)
                .replace("{message}", facts.caller)
                .replace("{id}", id),
        ),
        Value::Array(items) => items.iter().map(|item| fill(item, facts, id)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), fill(value, facts, id)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => shape.clone(),
    }
}

fn problem(facts: &Facts, id: &str) -> Response<Bytes> {
    let body = json!({
        "type": format!("https://countersign.dev/reasons#{}", facts.code),
        "title": facts.caller,
        "status": facts.status,
        "reason": facts.code,
        "instance": format!("urn:uuid:{id}"),
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status(facts.status);
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

fn decorate(response: &mut Response<Bytes>, facts: &Facts, retry: Option<Duration>, id: &str) {
    let headers = response.headers_mut();
    let kind = proxy_error_type(facts.status);
    let text = format!(
        "countersign; error={kind}; details=\"{}; {id}\"",
        facts.code
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(PROXY_STATUS, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(retry) = retry {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry)));
    }
    if facts.status == 407 {
        headers.append(
            PROXY_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"countersign\""),
        );
        headers.append(
            PROXY_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"countersign\""),
        );
    }
}

/// Rounded up, so that a client does not retry too early.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The nearest of the error types registered by RFC 9209, section 2.3.
fn proxy_error_type(status: u16) -> &'static str {
    match status {
        400 | 405 | 408 | 413 | 421 | 431 | 499 => "http_request_error",
        403 | 407 | 429 => "http_request_denied",
        502 => "destination_unavailable",
        504 => "http_response_timeout",
        508 => "proxy_loop_detected",
        _ => "proxy_internal_error",
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
