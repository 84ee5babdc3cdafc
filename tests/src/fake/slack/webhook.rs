//! Incoming webhooks: the URL's path is the secret.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{SlackApi, methods::TEAM, too_many};
use crate::{
    fake::{Body, Received, body, memory::fields},
    random,
};

/// The one webhook of the workspace.
pub(super) struct Webhook {
    service: String,
    secret: String,
    trigger: String,
    response: String,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            service: format!("B{}", random::upper(10)),
            secret: random::alphanumeric(24),
            trigger: random::hex::<16>(),
            response: random::alphanumeric(24),
        }
    }
}

impl Webhook {
    pub(super) fn path(&self) -> String {
        format!("/services/{TEAM}/{}/{}", self.service, self.secret)
    }

    pub(super) fn trigger_path(&self) -> String {
        format!("/triggers/{TEAM}/4711/{}", self.trigger)
    }

    pub(super) fn response_path(&self, kind: &str) -> String {
        format!("/{kind}/{TEAM}/815/{}", self.response)
    }

    fn check(&self, path: &str) -> Result<(), (StatusCode, &'static str)> {
        let mut segments = path
            .strip_prefix("/services/")
            .unwrap_or_default()
            .split('/');
        let [team, service, secret] =
            [segments.next(), segments.next(), segments.next()].map(Option::unwrap_or_default);
        if team != TEAM {
            Err((StatusCode::NOT_FOUND, "no_team"))
        } else if service != self.service {
            Err((StatusCode::NOT_FOUND, "no_service"))
        } else if secret != self.secret || segments.next().is_some() {
            Err((StatusCode::FORBIDDEN, "invalid_token"))
        } else {
            Ok(())
        }
    }
}

impl SlackApi {
    /// Answers at hooks.slack.com.
    pub(super) fn hook(&self, received: &Received) -> Response<Body> {
        if let Some(limited) = self.limits.take("webhook") {
            return too_many(limited, body::text(StatusCode::OK, "rate_limited"));
        }
        match received.path.split('/').nth(1) {
            Some("triggers" | "workflows") => return self.trigger(received),
            Some(kind @ ("commands" | "actions")) => return self.respond(kind, received),
            _ => {}
        }
        if let Err((status, code)) = self.webhook.check(&received.path) {
            return body::text(status, code);
        }
        match payload(received) {
            Some(Value::Object(payload)) => {
                let text = payload.get("text").and_then(Value::as_str);
                if text.is_none()
                    && !payload.contains_key("blocks")
                    && !payload.contains_key("attachments")
                {
                    return body::text(StatusCode::BAD_REQUEST, "no_text");
                }
                self.chat
                    .add("webhook", text.unwrap_or_default(), self.clock.now());
                body::text(StatusCode::OK, "ok")
            }
            Some(_) | None => body::text(StatusCode::BAD_REQUEST, "invalid_payload"),
        }
    }
}

impl SlackApi {
    /// A workflow takes any object, and answers as the Web API does.
    fn trigger(&self, received: &Received) -> Response<Body> {
        let answer = |status, body| body::json(status, &body);
        if received.path != self.webhook.trigger_path() {
            let body = json!({"ok": false, "error": "invalid_webhook"});
            return answer(StatusCode::NOT_FOUND, body);
        }
        if !matches!(payload(received), Some(Value::Object(_))) {
            let body = json!({"ok": false, "error": "invalid_payload"});
            return answer(StatusCode::BAD_REQUEST, body);
        }
        self.chat.add("trigger", "started", self.clock.now());
        answer(StatusCode::OK, json!({"ok": true}))
    }

    /// A `response_url`: its path is the ticket, and nothing else of a credential is wanted.
    fn respond(&self, kind: &str, received: &Received) -> Response<Body> {
        if received.path != self.webhook.response_path(kind) {
            let body = json!({"ok": false, "error": "expired_url"});
            return body::json(StatusCode::NOT_FOUND, &body);
        }
        let payload = payload(received);
        let Some(text) = payload.as_ref().and_then(|value| value["text"].as_str()) else {
            return body::text(StatusCode::BAD_REQUEST, "invalid_payload");
        };
        self.chat.add("response", text, self.clock.now());
        body::text(StatusCode::OK, "ok")
    }
}

/// JSON as the body, or in the form field `payload`.
fn payload(received: &Received) -> Option<Value> {
    if received.method != Method::POST || !received.complete {
        return None;
    }
    if let Some(value) = received.json() {
        return Some(value);
    }
    let body = String::from_utf8_lossy(&received.body);
    let (_, payload) = fields(&body)
        .into_iter()
        .find(|(name, _)| name == "payload")?;
    serde_json::from_str(&payload).ok()
}
