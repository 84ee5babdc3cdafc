//! `https://slack.com/api/METHOD`.

use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use super::{
    Outcome, SlackApi,
    arguments::Arguments,
    members, render,
    scopes::{self, Needs},
    too_many,
};
use crate::{
    fake::{Body, Received, body},
    random,
};

pub(super) const TEAM: &str = "T9TK3CUKW";
pub(super) const BOT_USER: &str = "U0KRQLJ9H";

impl SlackApi {
    /// Answers a Web API call.
    pub(super) fn call(&self, received: &Received) -> Response<Body> {
        let Some(method) = received.path.strip_prefix("/api/") else {
            return body::text(StatusCode::NOT_FOUND, "not found\n");
        };
        if let Some(limited) = self.limits.take(method) {
            return too_many(limited, render(Err("ratelimited".into())));
        }
        let needs = scopes::of(method);
        let outcome = self.decide(received, method, needs);
        let mut response = render(outcome);
        let headers = response.headers_mut();
        headers.insert("x-slack-req-id", text(&random::hex::<16>()));
        if let Some(Needs::Workspace(scope)) = needs {
            headers.insert("x-oauth-scopes", text(&self.tokens().scopes()));
            headers.insert("x-accepted-oauth-scopes", text(scope.unwrap_or_default()));
        }
        response
    }

    fn decide(&self, received: &Received, method: &str, needs: Option<Needs>) -> Outcome {
        let needs = needs.ok_or("unknown_method")?;
        if !received.complete {
            return Err("request_timeout".into());
        }
        if ![Method::GET, Method::POST].contains(&received.method) {
            return Err("invalid_arguments".into());
        }
        let arguments = Arguments::of(received);
        if needs == Needs::Client {
            if let Some(error) = self.failures.take(method) {
                return Err(error.into());
            }
            return match method {
                "oauth.v2.exchange" => self.oauth_exchange(received, &arguments),
                _ => self.oauth_access(received, &arguments),
            };
        }
        let token = self
            .tokens()
            .authenticate(received, needs, self.clock.now())?;
        if let Some(error) = self.failures.take(method) {
            return Err(error.into());
        }
        self.dispatch(method, &token, &arguments)
    }

    fn dispatch(&self, method: &str, token: &str, arguments: &Arguments) -> Outcome {
        match method {
            "auth.test" => Ok(members(json!({
                "url": "https://acme.slack.com/",
                "team": "Acme",
                "user": "dashboard",
                "team_id": TEAM,
                "user_id": BOT_USER,
                "bot_id": "B0KRD7HC4",
                "is_enterprise_install": false,
            }))),
            "auth.revoke" => {
                self.tokens().end(token);
                Ok(members(json!({"revoked": true})))
            }
            "chat.postMessage" => self.chat.post(arguments, self.clock.now()),
            "conversations.history" => self.chat.history(arguments),
            "files.getUploadURLExternal" => self.files.start(arguments),
            "files.completeUploadExternal" => self.files.complete(arguments),
            "files.info" => self.files.info(arguments),
            "apps.connections.open" => Ok(members(json!({"url": self.sockets.ticket()}))),
            _ if scopes::of(method) == Some(Needs::User) => Ok(members(json!({}))),
            _ => Err("unknown_method".into()),
        }
    }

    /// Answers at `api.slack.com/scim`: an admin's user token, in the header.
    pub(super) fn scim(&self, received: &Received) -> Response<Body> {
        let user = format!("Bearer {}", self.tokens().user);
        if received.header_values("authorization") != [user] {
            let errors = json!({"Errors": {"description": "invalid_authentication", "code": 401}});
            return body::json(StatusCode::UNAUTHORIZED, &errors);
        }
        body::json(StatusCode::OK, &json!({"totalResults": 0, "Resources": []}))
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("scopes and ids are visible ASCII")
}
