//! The response to a refused request: an error of the API, or `application/problem+json` (RFC 9457); always
//! with `Proxy-Status` (RFC 9209) and the record's id.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use countersign_config::model::RefusalShape;
use countersign_core::reason::{Facts, Language};
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, PROXY_AUTHENTICATE, RETRY_AFTER},
};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};

use super::Refusal;
use crate::observe::{Entry, PathOnly};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The response within a tunnel, or to a request in absolute form.
pub fn answer(refusal: &Refusal, record: &Entry) -> Response<Bytes> {
    let told = Told::of(refusal, record);
    let mut response = match shape(refusal, record) {
        Some(shape) => told.in_the_apis_language(shape),
        None => told.problem(),
    };
    told.decorate(&mut response, refusal.retry_after);
    response
}

/// The response to a refused CONNECT, of which most clients show only the status line.
pub fn connect_answer(refusal: &Refusal, record: &Entry) -> Response<Bytes> {
    let told = Told::of(refusal, record);
    let mut response = told.problem();
    told.phrase(&mut response);
    told.decorate(&mut response, refusal.retry_after);
    response
}

/// The response to a CONNECT in whose tunnel the refusal follows. Most clients do not read its fields; a relay does.
pub fn told_inside(refusal: &Refusal, record: &Entry) -> Response<()> {
    let mut response = Response::new(());
    Told::of(refusal, record).decorate(&mut response, None);
    response
}

/// The API's own format for this request, if the refusal has it.
fn shape<'r>(refusal: &'r Refusal, record: &Entry) -> Option<&'r RefusalShape> {
    let language = refusal.language;
    let shapes = refusal.target.as_ref()?.refusal.as_ref();
    let shapes = shapes.filter(|_| language != Language::Http)?;
    let asked = record.target.as_ref()?;
    let path = asked.path.as_ref().and_then(PathOnly::canonical);
    let shape = shapes.of(asked.authority.host(), path.as_ref());
    let succeeds = language == Language::Api && (200..300).contains(&shape.status);
    (!succeeds || asked.method.as_ref().is_none_or(says_why_in_its_body)).then_some(shape)
}

/// Whether a client reads the error in the body of a 2xx. To HEAD there is no body, a 2xx to CONNECT
/// opens a tunnel, and one to TRACE has the request in its body.
fn says_why_in_its_body(method: &Method) -> bool {
    let without = ["HEAD", "CONNECT", "TRACE", "TRACK"];
    let method = method.as_str();
    !without.iter().any(|name| method.eq_ignore_ascii_case(name))
}

/// What a caller learns of a refusal. Nothing of the policy is in it.
struct Told<'r> {
    facts: &'static Facts,
    language: Language,
    /// HTTP's status.
    status: u16,
    /// Who is responsible for the caller's own workload; empty if it is not known.
    owner: &'r str,
    /// The record's id.
    id: String,
}

impl<'r> Told<'r> {
    fn of(refusal: &'r Refusal, record: &'r Entry) -> Self {
        let facts = refusal.reason.facts();
        let workload = refusal.workload.as_ref().or(record.workload.as_ref());
        Self {
            facts,
            language: refusal.language,
            // 407 is a proxy's: from an API it makes clients fail without a word.
            status: match (refusal.language, facts.status) {
                (Language::Api, 407) => 403,
                (_, status) => status,
            },
            owner: workload.map_or("", |workload| workload.owner.as_str()),
            id: record.id.to_string(),
        }
    }

    /// All of it in one line.
    fn explanation(&self) -> String {
        let mut line = format!("Countersign: {}", self.facts.caller);
        if !self.owner.is_empty() {
            let _ = write!(line, " Ask {}.", self.owner);
        }
        let _ = write!(line, " ({}, {})", self.facts.code, self.id);
        line
    }

    fn in_the_apis_language(&self, shape: &RefusalShape) -> Response<Bytes> {
        let body = match self.fill(&shape.body) {
            Value::String(text) if !shape.is_json() => text,
            body => body.to_string(),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status(match self.language {
            Language::Api => shape.status,
            Language::Http | Language::ApiBody => self.status,
        });
        if let Ok(content_type) = HeaderValue::from_str(&shape.content_type) {
            response.headers_mut().insert(CONTENT_TYPE, content_type);
        }
        if response.status().is_client_error() {
            self.phrase(&mut response);
        }
        response
    }

    /// Some clients show nothing but the status line: Python's urllib, and so `slack_sdk` for uploads, and most
    /// of them for CONNECT.
    fn phrase<B>(&self, response: &mut Response<B>) {
        if let Ok(phrase) = ReasonPhrase::try_from(self.explanation().into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
    }

    /// Fills in every text of the shape's body. What is filled in is not looked through again.
    fn fill(&self, shape: &Value) -> Value {
        match shape {
            Value::String(text) => Value::String(self.fill_text(text)),
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), self.fill(value)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => shape.clone(),
        }
    }

    fn fill_text(&self, mut text: &str) -> String {
        let mut filled = String::new();
        while let Some(at) = text.find('{') {
            filled.push_str(&text[..at]);
            text = &text[at..];
            let end = text.find('}').map_or(text.len(), |end| end + 1);
            match &text[..end] {
                "{reason}" => filled.push_str(self.facts.code),
                "{message}" => filled.push_str(self.facts.caller),
                "{owner}" => filled.push_str(self.owner),
                "{id}" => filled.push_str(&self.id),
                "{explanation}" => filled.push_str(&self.explanation()),
                _ => {
                    filled.push('{');
                    text = &text[1..];
                    continue;
                }
            }
            text = &text[end..];
        }
        filled.push_str(text);
        filled
    }

    fn problem(&self) -> Response<Bytes> {
        let mut body = json!({
            "type": format!("https://countersign.dev/reasons#{}", self.facts.code),
            "title": self.facts.caller,
            "status": self.status,
            "detail": self.explanation(),
            "reason": self.facts.code,
            "help": format!("countersign reasons {}", self.facts.code),
            "instance": format!("urn:uuid:{}", self.id),
        });
        if !self.owner.is_empty() {
            body["owner"] = self.owner.into();
        }
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status(self.status);
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }

    fn decorate<B>(&self, response: &mut Response<B>, retry: Option<Duration>) {
        let headers = response.headers_mut();
        let kind = proxy_error_type(self.status);
        let text = format!(
            "countersign; error={kind}; details=\"{}; {}\"",
            self.facts.code, self.id
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(PROXY_STATUS, value);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry)));
        }
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let headers = response.headers_mut();
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

#[cfg(test)]
mod tests;
